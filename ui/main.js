// Wires the page: paints each view as it comes, and sends what the person does. Decides nothing.

import { connect } from "./backend.js";
import { showCheckUp } from "./checkup.js";
import { byId } from "./dom.js";
import { linkIn } from "./invite.js";
import { paint, tick } from "./paint.js";
import { confirmed, note, showHelp, showSettings, withdrawQuestion } from "./panels.js";

const CANCELS = ["cancel", "decline_invite"]; // what Esc does, where the screen offers it
// Milliseconds. Any web page can open a link, and so show an invite just before somebody clicks on the one that was there; the
// click is then on its way already. This is longer than it takes, and hardly longer than it takes to see what has changed.
const INVITE_SETTLES = 1000;
const NOTE_AFTER = { copy_link: "copied", copy_request: "copied" };

const backend = await connect();
let view = null;
let settled = 0; // when the invite on show may be agreed to
let asking = null; // the action whose question is open

async function perform(action, details = {}) {
  if (action.id === "accept_invite" && settling()) return;
  // The invite that the person sees now is the one agreed to, whatever is opened meanwhile.
  const seen = action.id === "accept_invite" ? { invite: view.invite?.id ?? "" } : {};
  if (action.confirm && !(await asked(action))) return;
  await backend.act({ do: action.id, ...seen, ...details });
  if (NOTE_AFTER[action.id]) note(view.labels[NOTE_AFTER[action.id]]);
}

async function asked(action) {
  asking = action;
  const yes = (await confirmed(action, view.labels)) && !outdated(view);
  asking = null;
  return yes;
}

// A question about what cannot be done any more, or about something else by now, is not to be answered.
const outdated = ({ actions }) => asking && !actions.some(({ id, confirm }) => id === asking.id && confirm === asking.confirm);

function show(next) {
  if (view && JSON.stringify(view) === JSON.stringify(next)) return;
  if (view?.invite?.id !== next.invite?.id) {
    withdrawQuestion();
    settled = performance.now() + INVITE_SETTLES;
  }
  if (outdated(next)) withdrawQuestion();
  view = next;
  paint(view, perform);
  holdInvite();
}

const settling = () => performance.now() < settled;

// Neither the mouse nor the keyboard agrees to an invite that has only just come.
function holdInvite() {
  const connect = document.querySelector("[data-action=accept_invite]");
  if (!connect) return;
  const focused = connect === document.activeElement;
  connect.disabled = settling();
  if (!connect.disabled) return;
  // A timer may come a little early by this clock: it looks again.
  setTimeout(holdInvite, settled - performance.now() + 1);
  if (focused) byId("headline").focus();
}

byId("paste").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = byId("link").value.trim();
  const action = view.actions.find(({ id }) => id === "paste_invite");
  if (!text || !action) return byId("link").focus();
  await perform(action, { link: linkIn(text) });
  byId("link").value = "";
});

// Enter sends; a pasted message may well have several lines, so the field is a text area.
byId("link").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("paste").requestSubmit();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  const action = view?.actions.find(({ id }) => CANCELS.includes(id));
  if (action) perform(action);
});

const panels = { help: () => showHelp(view.labels), "check-up": () => showCheckUp(backend, view.labels) };

byId("open-help").addEventListener("click", panels.help);
byId("open-check-up").addEventListener("click", panels["check-up"]);
byId("open-settings").addEventListener("click", () => showSettings(backend, view.labels));
byId("quit").addEventListener("click", () => backend.quit());

await backend.onView(show);
await backend.onOpen((panel) => panels[panel]?.());
show(await backend.view());
panels[location.hash.slice(1)]?.();
setInterval(() => tick(view), 1000);
// Shows the page, and tells whoever waits for it.
document.documentElement.setAttribute("data-ready", "");
