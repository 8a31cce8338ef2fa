// The one door to whatever stands behind the window: the desktop app, or (in any browser) a mock of every state.

// Gives `{ view(), act(command), onView(listener), onOpen(listener), checkUp(), copyReport(), settings(), setAutostart(on),
// quit() }`.
export async function connect() {
  if (window.__TAURI__) return tauri(window.__TAURI__);
  const { mock } = await import("./mock.js");
  return mock(new URLSearchParams(location.search));
}

function tauri({ core, event }) {
  return {
    view: () => core.invoke("view"),
    act: (command) => core.invoke("act", { command }),
    onView: (listener) => event.listen("view", ({ payload }) => listener(payload)),
    // What the tray's menu opens here, when the window is open already.
    onOpen: (listener) => event.listen("open", ({ payload }) => listener(payload)),
    checkUp: () => core.invoke("check_up"),
    copyReport: () => core.invoke("copy_report"),
    settings: () => core.invoke("settings"),
    setAutostart: (on) => core.invoke("set_autostart", { on }),
    quit: () => core.invoke("quit"),
  };
}
