"""dkdmpl_kit: dual knowledge distillation on multiview pseudo labels, as a research and
teaching kit.

The submodules are the interface (`dkdmpl_kit.data`, `dkdmpl_kit.losses`, ...): this
file imports none of them, so that `import dkdmpl_kit` is instant.
"""

__version__ = "0.3.0"
