// Reading and answering plain HTTP.

/** A form or hook is a few hundred bytes; nobody sends this much honestly. */
const BODY_LIMIT = 64 * 1024;

export async function readBody(req) {
  let text = '';
  for await (const chunk of req.setEncoding('utf8')) {
    text += chunk;
    if (text.length > BODY_LIMIT) throw new RangeError('the request body is too large');
  }
  return text;
}

export const readForm = async (req) => Object.fromEntries(new URLSearchParams(await readBody(req)));

export function json(res, status, body, headers = {}) {
  res.writeHead(status, { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store', ...headers });
  res.end(JSON.stringify(body));
}

export function html(res, status, body) {
  res.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  res.end(body);
}
