// Paints a view on the page. Knows the view's shape and nothing of how it came about.

import { breakable, byId, el, fill, glyph } from "./dom.js";
import { remaining, when } from "./time.js";

// `perform(action)` is called when the person clicks an action.
export function paint(view, perform) {
  const focused = document.activeElement?.dataset.action;
  const { labels } = view;
  document.documentElement.dataset.screen = view.screen;
  document.documentElement.dataset.icon = view.icon;
  document.title = labels.title;
  byId("countdown").setAttribute("aria-label", labels.time_left);
  byId("steps").setAttribute("aria-label", labels.steps);
  byId("link").placeholder = labels.invite_placeholder;
  for (const node of document.querySelectorAll("[data-label]")) node.textContent = labels[node.dataset.label] ?? "";

  banner(view, perform);
  headline(view);
  steps(view);
  invite(view);
  paste(view);
  request(view);
  actions(view, perform);
  assistant(view);
  accounts(view);
  activity(view);
  tick(view);
  if (focused) (document.querySelector(`[data-action="${focused}"]`) ?? byId("headline")).focus();
  announce([view.headline, view.detail].filter(Boolean).join(". "));
}

// Once a second: only the countdown moves, and it is not announced.
export function tick(view) {
  const place = byId("countdown");
  place.hidden = !view?.countdown_until;
  if (!place.hidden) place.textContent = remaining(view.countdown_until, seconds());
}

function announce(words) {
  const status = byId("status");
  if (status.textContent !== words) status.textContent = words;
}

// A banner that says what the headline says is not said twice: the headline then looks like the banner.
function banner({ banner, headline }, perform) {
  const merged = banner?.text === headline;
  const action = banner ? button(banner.action, perform) : null;
  byId("state").classList.toggle("banner", merged);
  fill("state-action", merged ? action : null);
  if (!banner || merged) return fill("banner");
  return fill("banner", glyph("attention"), el("p", {}, banner.text), action);
}

function headline({ icon, headline, detail }) {
  byId("state").querySelector("use").setAttribute("href", `#glyph-${icon}`);
  byId("headline").replaceChildren(...breakable(headline.replaceAll(" · ", "\u00a0· "))); // no line begins with a dot
  fill("detail", detail || null);
}

function steps({ steps, labels }) {
  const next = steps.findIndex(({ done }) => !done);
  const item = ({ id, label, done }, index) =>
    el(
      "li",
      { "data-step": id, class: done ? "done" : index === next ? "current" : null, "aria-current": index === next ? "step" : null },
      label,
      done ? el("span", { class: "unseen" }, ` (${labels.done})`) : null,
    );
  fill("steps", ...steps.map(item));
}

function invite({ invite, labels }) {
  if (!invite) return fill("invite");
  return fill(
    "invite",
    facts([
      [labels.for, invite.email],
      [labels.reads, invite.reads],
      [labels.expires, time(invite.expires_at, labels)],
      [labels.sign_in_at, invite.login_host],
      [labels.broker, invite.broker_host],
    ]),
    invite.warning ? el("p", { class: "warning", role: "alert" }, invite.warning) : null,
    el("h2", { id: "words-title" }, labels.compare_words),
    el("ul", { class: "words", "aria-labelledby": "words-title" }, ...invite.words.map((word) => el("li", {}, word))),
    el("p", { class: "quiet" }, labels.compare_words_how),
  );
}

function paste({ actions }) {
  const action = actions.find(({ id }) => id === "paste_invite");
  const form = byId("paste");
  form.hidden = !action;
  if (action) form.querySelector("button").textContent = action.label;
}

function request({ copy_text: text, labels }) {
  if (!text) return fill("request");
  return fill("request", el("h2", {}, labels.request), el("blockquote", { tabindex: "0" }, text));
}

// The field has its own button, and the banner may have taken one already: nothing is offered twice.
function actions({ actions, banner }, perform) {
  const here = actions.filter(({ id }) => id !== "paste_invite" && id !== banner?.action.id);
  const place = fill("actions", ...here.map((action) => button(action, perform)));
  // What is to be done stands first; what merely can be done stands last.
  if (here.some(({ kind }) => kind === "primary")) byId("assistant").before(place);
  else byId("accounts").after(place);
}

function assistant({ assistant, labels }) {
  if (!assistant) return fill("assistant");
  const { name, online, last_seen: seen, status } = assistant;
  return fill(
    "assistant",
    el("h2", {}, labels.assistant),
    el("p", { class: "name" }, name),
    status ? el("p", { class: `status ${online === true ? "ok" : online === false ? "offline" : ""}` }, status) : null,
    facts([[labels.last_seen, online !== true && seen ? time(seen, labels) : null]]),
  );
}

const HEALTH = { connected: "ok", reconnect_needed: "attention", blocked: "attention", retrying: "busy", unknown: "" };

function accounts({ accounts, labels }) {
  const card = ({ name, address, reads, status, checked_at: checked, health }) =>
    el(
      "section",
      { class: "card" },
      el("h2", {}, labels.accounts),
      el("p", { class: "name" }, name || address),
      name ? el("p", { class: "address" }, address) : null,
      el("p", { class: `status ${HEALTH[health] ?? ""}` }, status),
      facts([
        [labels.reads, reads],
        [labels.last_checked, checked ? time(checked, labels) : null],
      ]),
    );
  fill("accounts", ...accounts.map(card));
}

function activity({ activity, labels }) {
  if (activity.length === 0) return fill("activity");
  const line = ({ at, text }) => {
    const exact = new Date(at * 1000).toISOString();
    return el("li", {}, el("time", { datetime: exact }, time(at, labels)), el("span", {}, text));
  };
  return fill("activity", el("h2", {}, labels.activity), el("ul", {}, ...activity.map(line)));
}

function button(action, perform) {
  return el(
    "button",
    { type: "button", class: action.kind, "data-action": action.id, onclick: () => perform(action) },
    action.label,
  );
}

// A list of facts, each with one value or several; those without are left out, and so is an empty list.
function facts(pairs) {
  const known = pairs.map(([term, value]) => [term, [value ?? []].flat()]).filter(([, values]) => values.length > 0);
  if (known.length === 0) return null;
  const values = (all) => all.map((value) => el("dd", {}, value));
  return el("dl", {}, ...known.map(([term, all]) => el("div", {}, el("dt", {}, term), ...values(all))));
}

const time = (at, labels) => when(at, seconds(), labels);
const seconds = () => Date.now() / 1000;
