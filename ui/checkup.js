// "Check my set-up": asks for the check, and shows what came of it as it was said. Decides nothing.

import { byId, el } from "./dom.js";

const MARKS = { ok: "✓", note: "·", warning: "!", problem: "✗" };

let running = null;

// Opens the panel. One check at a time: opened again, it shows the one that is under way.
export async function showCheckUp(backend, labels) {
  const dialog = byId("check-up");
  if (!dialog.open) dialog.showModal();
  byId("check-up-again").onclick = () => showCheckUp(backend, labels);
  byId("check-up-copy").onclick = async () => {
    await backend.copyReport();
    byId("check-up-said").textContent = labels.copied;
  };
  running ??= examine(backend, labels).finally(() => (running = null));
  await running;
}

async function examine(backend, labels) {
  // A button that is about to go must not take the focus along.
  byId("check-up").querySelector("form button:last-child").focus();
  paint({ headline: labels.check_up_busy, lines: [], report: "" });
  paint(await backend.checkUp());
}

function paint({ headline, lines, report }) {
  byId("check-up-said").textContent = headline;
  byId("check-up-lines").replaceChildren(...lines.map(line));
  byId("check-up-text").textContent = report;
  for (const id of ["check-up-found", "check-up-copy", "check-up-again"]) byId(id).hidden = !report;
}

function line({ level, spoken, text, action }) {
  return el(
    "li",
    { "data-level": level },
    el("span", { class: "mark", "aria-hidden": "true" }, MARKS[level]),
    el(
      "div",
      {},
      el("p", {}, el("span", { class: "unseen" }, `${spoken}: `), text),
      action ? el("p", { class: "quiet" }, action) : null,
    ),
  );
}
