// Small helpers to build elements. Text is only ever set as text: nothing that came from outside can become markup.

const SVG = "http://www.w3.org/2000/svg";
// In the small window about a line of it.
const LONG_WORD = /(\S{25,})/;

export const byId = (id) => document.getElementById(id);

// `el("p", { class: "quiet" }, "words", child)`; attributes that are null or false are left out.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...present(children));
  return node;
}

// A long name of a server or a mailbox may end a line behind a dot, a hyphen or an @, rather than anywhere: somebody who
// compares it letter by letter must not take the first half for the whole.
export function breakable(text) {
  return text.split(LONG_WORD).flatMap((part, index) => (index % 2 ? part.split(/(?<=[.@-])/).flatMap(behindABreak) : [part]));
}

function behindABreak(piece, index) {
  return index ? [document.createElement("wbr"), piece] : [piece];
}

export function glyph(name, className = "glyph") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#glyph-${name}`);
  svg.append(use);
  return svg;
}

// Fills a place of the page, and hides it when there is nothing to put there.
export function fill(id, ...children) {
  const place = byId(id);
  const there = present(children);
  place.replaceChildren(...there);
  place.hidden = there.length === 0;
  return place;
}

function present(children) {
  const there = children.filter((child) => child !== null && child !== undefined);
  return there.flatMap((child) => (typeof child === "string" ? breakable(child) : [child]));
}
