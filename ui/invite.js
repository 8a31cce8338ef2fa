// Finds the invite in whatever was pasted: the link alone, or a whole message with the link somewhere in it, broken over
// lines by a mail program. What the invite says, and whether it is any good, is for the companion to say.

const LINK = /(?:valetkey:\/\/invite\/|https:\/\/\S+?#)([\w-]+)/;

// The link, or the text as it is where no whole link is found.
export function linkIn(text) {
  const found = LINK.exec(text);
  if (!found) return text;
  let [link, data] = found;
  const behind = text.slice(found.index + link.length).split(/\s+/).filter(Boolean);
  // A link broken over lines goes on as long as it is not whole.
  for (const piece of ["", ...behind]) {
    link += piece;
    data += piece;
    if (isWhole(data)) return link;
  }
  return text;
}

// What a link carries is JSON, in URL-safe base64.
function isWhole(data) {
  try {
    JSON.parse(atob(data.replaceAll("-", "+").replaceAll("_", "/")));
    return true;
  } catch {
    return false;
  }
}
