// The pages a person sees. Plainly not Microsoft's, in light and dark, without script.

const STYLE = `
:root { color-scheme: light dark; --page: #f3f4f6; --card: #fff; --text: #1b1f24; --quiet: #5b6470; --line: #c9ced6; --accent: #1f5fbf; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --card: #1f242a; --text: #e8eaed; --quiet: #a2abb6; --line: #444c56; --accent: #7fb0ff; --bad: #ff9d94; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { width: min(26rem, calc(100vw - 2rem)); padding: 2rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.mark { margin: 0 0 1rem; color: var(--quiet); font-size: .8125rem; }
h1 { margin: 0 0 1rem; font-size: 1.375rem; font-weight: 600; }
label { display: block; margin: 1rem 0 .25rem; font-size: .875rem; }
input[type=text], input[type=email], input[type=password] { width: 100%; padding: .6rem .7rem; border: 1px solid var(--line); border-radius: 6px; background: transparent; color: inherit; font: inherit; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
/* The primary button comes first, so that Enter presses it. */
.buttons { display: flex; flex-direction: row-reverse; gap: .75rem; margin-top: 1.5rem; }
button { padding: .55rem 1.25rem; border: 1px solid var(--line); border-radius: 6px; background: transparent; color: inherit; font: inherit; cursor: pointer; }
button.primary { border-color: var(--accent); background: var(--accent); color: var(--card); }
.bad { color: var(--bad); } .quiet { color: var(--quiet); font-size: .875rem; }
code { font-size: 1.25rem; letter-spacing: .1em; }
ul { padding-left: 1.2rem; }
`;

export function signIn({ client, username = '', permissions = [], problem }) {
  const asks = permissions.length
    ? `<p class="quiet">${escape(client)} asks for: ${permissions.map(escape).join(', ')}</p>` : '';
  return page('Practice sign-in', `
    <h1>Sign in</h1>
    ${asks}
    ${problem ? `<p class="bad" id="problem" role="alert">${escape(problem)}</p>` : ''}
    <form method="post">
      <label for="username">Account</label>
      <input type="email" id="username" name="username" value="${escape(username)}" autocomplete="off" required${username ? '' : ' autofocus'}>
      <label for="password">Password</label>
      <input type="password" id="password" name="password" autocomplete="off" required${username ? ' autofocus' : ''}>
      <p class="quiet">Every practice account has the password “practice”.</p>
      <div class="buttons">
        <button id="submit" name="action" value="sign-in" class="primary">Sign in</button>
        <button id="cancel" name="action" value="cancel" formnovalidate>Cancel</button>
      </div>
    </form>`);
}

/** `form` is oidc-provider's own, with its token against forged requests. */
export function userCode(form, problem) {
  if (problem?.name === 'AbortedError') return message('Sign-in cancelled', 'You can close this window.');
  return page('Practice sign-in', `
    <h1>Enter code</h1>
    <p>Enter the code shown on your device.</p>
    ${problem ? '<p class="bad" id="problem" role="alert">That code did not work. It may be mistyped, used up or too old.</p>' : ''}
    ${form}
    <div class="buttons"><button id="submit" class="primary" form="op.deviceInputForm">Next</button></div>`);
}

export function confirmCode(form, client, code) {
  return page('Practice sign-in', `
    <h1>Is this your code?</h1>
    <p><code>${escape(code)}</code></p>
    <p>Only continue if ${escape(client)} on your own device shows this code.</p>
    ${form}
    <div class="buttons">
      <button id="submit" class="primary" form="op.deviceConfirmForm">Continue</button>
      <button id="cancel" name="abort" value="yes" form="op.deviceConfirmForm">Cancel</button>
    </div>`);
}

export function message(title, text) {
  return page(title, `<h1>${escape(title)}</h1><p id="message">${escape(text)}</p>`);
}

function page(title, content) {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escape(title)}</title>
<style>${STYLE}</style></head>
<body><main><p class="mark">Practice sign-in · not Microsoft</p>${content}</main></body></html>`;
}

function escape(text) {
  return String(text).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}
