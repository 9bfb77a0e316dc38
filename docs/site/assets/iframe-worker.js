/* A page that is opened from a folder may not start a worker, and the search is one. There
   its script runs in a hidden frame, with the few words of a worker that it uses. */
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      const inside = frame.contentWindow
      inside.postMessage = (data) =>
        this.dispatchEvent(new MessageEvent("message", { data }))
      inside.importScripts = async (...scripts) => {
        for (const script of scripts) await load(inside, script)
      }
      this.send = load(inside, address).then(
        () => (data) => inside.dispatchEvent(new inside.MessageEvent("message", { data }))
      )
    }
    postMessage(data) {
      this.send.then((send) => send(data))
    }
  }
  const load = (inside, address) =>
    new Promise((resolve, reject) => {
      const script = inside.document.createElement("script")
      script.src = address
      script.onload = resolve
      script.onerror = reject
      inside.document.body.append(script)
    })
}
