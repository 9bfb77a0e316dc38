from dkdmpl_kit.cli import main

raise SystemExit(main())
