// The panels over the page: "are you sure", Help and Settings; and the passing note that something was copied.

import { byId, el } from "./dom.js";

const NOTE_STAYS = 4000; // ms; long enough to read two words twice
const HELP = ["help_what", "help_private", "help_stop", "help_who"];

// Whether the person said yes. Esc and Cancel say no; the safe button has the focus.
export function confirmed(action, labels) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = action.confirm;
  byId("confirm-yes").textContent = action.label;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// What was asked is no longer what is on show.
export function withdrawQuestion() {
  const dialog = byId("confirm");
  if (dialog.open) dialog.close("no");
}

export function showHelp(labels) {
  byId("help-text").replaceChildren(...HELP.filter((key) => labels[key]).map((key) => el("p", {}, labels[key])));
  open("help");
}

export async function showSettings(backend, labels) {
  const box = byId("autostart");
  const problem = byId("settings-problem");
  const { autostart, version } = await backend.settings();
  box.checked = autostart;
  byId("version").textContent = version;
  problem.textContent = "";
  box.onchange = async () => {
    const wanted = box.checked;
    problem.textContent = "";
    try {
      await backend.setAutostart(wanted);
    } catch {
      box.checked = !wanted;
      problem.textContent = labels.autostart_failed;
    }
  };
  open("settings");
}

let hiding;
export function note(words) {
  byId("status").textContent = words;
  const place = byId("note");
  place.textContent = words;
  place.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => (place.hidden = true), NOTE_STAYS);
}

function open(id) {
  const dialog = byId(id);
  if (!dialog.open) dialog.showModal();
}
