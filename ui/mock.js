// Every screen with made-up people, so that it can be seen and tested in any browser: `index.html?state=waiting`, and with the
// longest of names and a longer language `index.html?state=waiting&long`.
// Served over http (`python3 -m http.server -d ui`), since browsers load no modules from files.

const now = Math.floor(Date.now() / 1000);

// The words are those of the companion's texts; a test compares their keys.
const labels = {
  title: "Valet Key",
  assistant: "Assistant",
  accounts: "Account",
  activity: "Activity",
  no_activity: "Nothing yet",
  reads: "What it may do",
  asked_by: "Asked by",
  for: "For",
  expires: "Invite ends",
  compare_words: "Four words",
  compare_words_how: "The person who sent the invite sees the same four words.",
  broker: "Delivered through",
  sign_in_at: "Sign in at",
  last_checked: "Last checked",
  last_seen: "Last heard from",
  time_left: "Time left",
  steps: "Steps",
  done: "done",
  copied: "Copied",
  invite_placeholder: "valetkey://invite/…",
  invite_field: "Invite link",
  invite_hint: "The whole message will do; the link in it is found.",
  request: "Message for your administrator",
  confirm: "Yes, go on",
  back: "Back",
  today: "Today",
  yesterday: "Yesterday",
  help: "Help",
  help_what: "Valet Key lets your assistant read what you allow in Microsoft 365, and nothing else. You sign in on this computer, at Microsoft; your password goes nowhere else.",
  help_private: "What your assistant receives is sealed for it alone, and this computer keeps no copy.",
  help_stop: "To stop, choose Disconnect: your assistant then deletes its access.",
  help_who: "If something does not work, ask the person who sent you the invite.",
  check_up: "Check my set-up",
  check_up_ask: "Something not working?",
  check_up_busy: "Checking… This can take half a minute.",
  check_up_again: "Check again",
  report: "Report for whoever helps you",
  report_how: "It has no password and nobody's name in it. Read it before you send it.",
  copy_report: "Copy report",
  settings: "Settings",
  autostart: "Start Valet Key when I log in",
  autostart_failed: "This computer did not let that setting be changed.",
  quit: "Quit",
};

const assistant = { name: "Ana's helper", online: true, last_seen: now - 40, status: "Online" };
const offline = { ...assistant, online: false, last_seen: now - 7 * 3600, status: "Offline" };
const account = {
  id: "1",
  name: "Ana Souza",
  address: "ana@contoso.com",
  reads: ["Read your mail", "Read your calendar"],
  status: "Connected",
  checked_at: now - 240,
  health: "connected",
};
const activity = [
  { at: now - 240, text: "Your assistant renewed its access." },
  { at: now - 26 * 3600, text: "You connected ana@contoso.com." },
  { at: now - 26 * 3600 - 300, text: "You linked Ana's helper." },
];
const empty = {
  icon: "neutral",
  detail: null,
  banner: null,
  actions: [],
  countdown_until: null,
  steps: [],
  invite: null,
  assistant: null,
  accounts: [],
  activity: [],
  copy_text: null,
  labels,
};

const action = (id, label, kind = "secondary", confirm = null) => ({ id, label, kind, confirm });
const cancel = action("cancel", "Cancel", "quiet");
const disconnect = action(
  "disconnect",
  "Disconnect",
  "secondary",
  "Ana's helper deletes its access to this account and can no longer read it.",
);
const unpair = action("unpair", "Unlink this computer", "quiet", "Ana's helper is asked to delete its access, and this computer forgets it. You need a new invite to link again.");
const reconnect = action("reconnect", "Reconnect", "primary");
const copyRequest = action("copy_request", "Copy request", "primary");
const steps = (done) =>
  [
    ["signed_in", "Signed in"],
    ["checked", "Checked that it is you"],
    ["sealed", "Sealed for your assistant"],
    ["delivered", "Delivered"],
    ["stored", "Stored and tried by your assistant"],
  ].map(([id, label], index) => ({ id, label, done: index < done }));

const views = {
  checking: { icon: "busy", headline: "Checking…", assistant: { ...assistant, online: null, last_seen: null, status: "Asking…" } },
  not_paired: {
    headline: "Not linked to an assistant yet",
    detail: "Ask whoever runs your assistant for an invite link, and open or paste it here.",
    actions: [action("paste_invite", "Paste invite", "primary")],
  },
  invited: {
    headline: "Ana's helper asks to read your Microsoft 365",
    detail:
      "This invite is for ana@contoso.com. Compare the four words with the person who sent it before you connect.",
    actions: [action("accept_invite", "Connect", "primary"), action("decline_invite", "Not now", "quiet")],
    invite: {
      id: "invite-1",
      agent: "Ana's helper",
      email: "ana@contoso.com",
      reads: ["Read your mail", "Read your calendar"],
      words: ["harbor", "velvet", "candle", "orbit"],
      expires_at: now + 560,
      broker_host: "broker.contoso.com",
      login_host: "login.microsoftonline.com",
      warning: null,
    },
  },
  invited_elsewhere: {
    headline: "Ana's helper asks to read your Microsoft 365",
    detail: "Compare the four words with the person who sent this before you connect.",
    actions: [action("accept_invite", "Connect"), action("decline_invite", "Not now", "primary")],
    invite: {
      id: "invite-2",
      agent: "Ana's helper",
      email: null,
      reads: ["Read your mail"],
      words: ["harbor", "velvet", "candle", "orbit"],
      expires_at: now + 560,
      broker_host: "broker.contoso.com",
      login_host: "login.microsoftonline.com.example.net",
      warning:
        "You would sign in at login.microsoftonline.com.example.net, which isn't Microsoft's. Connect only if your organisation runs it.",
    },
  },
  not_connected: {
    headline: "Microsoft 365 isn't connected",
    detail: "Connect it, and Ana's helper can read what you allow.",
    actions: [action("connect", "Connect Microsoft 365", "primary"), unpair],
    assistant,
    activity: activity.slice(2),
  },
  waiting: {
    icon: "busy",
    headline: "Finish signing in in your browser",
    detail: "Sign in as ana@contoso.com. Closed the page? Open it again, or copy the link.",
    countdown_until: now + 272,
    actions: [action("open_again", "Open again", "primary"), action("copy_link", "Copy link"), cancel],
    assistant,
  },
  handing_over: { icon: "busy", headline: "Handing over to your assistant", steps: steps(3), assistant, actions: [cancel] },
  connected: {
    icon: "ok",
    headline: "Connected · ana@contoso.com · read-only",
    actions: [disconnect, unpair],
    assistant,
    accounts: [account],
    activity,
  },
  agent_offline: {
    icon: "offline",
    headline: "Your assistant is offline",
    detail: "Nothing to do; we'll finish when it's back.",
    assistant: offline,
    steps: steps(3),
    accounts: [{ ...account, status: "Not heard since 09:12", health: "unknown", checked_at: now - 7 * 3600 }],
    activity: activity.slice(1),
  },
  reconnect: {
    icon: "attention",
    headline: "Microsoft needs you to sign in again",
    detail: "Your password changed.",
    banner: { text: "Microsoft needs you to sign in again", action: reconnect },
    actions: [reconnect, disconnect],
    assistant,
    accounts: [{ ...account, status: "Sign-in needed", health: "reconnect_needed", checked_at: now - 3600 }],
    activity,
  },
  wrong_account: {
    icon: "attention",
    headline: "You signed in as bob@fabrikam.com, but this is for ana@contoso.com",
    detail: "Nothing was sent.",
    actions: [action("use_different_account", "Use a different account", "primary"), cancel],
    assistant,
  },
  blocked: {
    icon: "attention",
    headline: "An administrator must allow this first",
    detail: "Copy the request and send it to your administrator; then try again.",
    banner: { text: "An administrator must allow this first", action: copyRequest },
    copy_text:
      "Hello,\n\nI would like to use Valet Key with my account ana@contoso.com. Please grant the delegated permissions Mail.Read and Calendars.Read to the application 11111111-1111-4111-8111-111111111111.\n\nCode: AADSTS90094",
    actions: [copyRequest, action("retry", "Try again"), cancel],
    assistant,
  },
  error: {
    icon: "attention",
    headline: "Your computer's clock looks wrong by 12 minutes",
    detail: "Set it right, then try again.",
    actions: [action("retry", "Try again", "primary"), action("dismiss", "Dismiss", "quiet")],
    assistant,
  },
};

const found = (level, spoken, text, action = null) => ({ level, spoken, text, action });
const sheet = {
  headline: "2 things don't work",
  lines: [
    found("problem", "Doesn't work", "Your computer's clock looks wrong by 12 minutes (behind).", "Let your computer set its date and time by itself."),
    found(
      "problem",
      "Doesn't work",
      "mqtt-production.krankenhausverbund-nordrhein-westfalen.example, between you and your assistant, can't be reached through proxy.krankenhausverbund-nordrhein-westfalen.example:3128.",
      "Check this computer's network and firewall; what waits here is sent when it is back.",
    ),
    found("warning", "Needs a look", "The keyring of this computer is locked; the keys in it are fine.", "Unlock it, or sign in to this computer once more."),
    found("note", "Good to know", "Your organisation's rules in /etc/valet-key/policy.toml apply here."),
    found("ok", "Fine", "Your browser can be opened."),
    found("ok", "Fine", "Valet Key's own files in /home/ana/.local/share/org.valetkey.companion are in order."),
    found("ok", "Fine", "login.microsoftonline.com, where you sign in, answers."),
  ],
  report:
    "A report about Valet Key, to be read before it is sent.\n\nvalet-key 0.1.0 on linux (x86_64), 2026-11-21T09:12:00Z\n\n✗ Your computer's clock looks wrong by 12 minutes (behind).\n",
};

// By what they stand for.
const LONG = {
  "Ana's helper": "Terminkoordinierungsassistenz der Universitätsmedizin",
  "Ana Souza": "Anna-Katharina Müllerschönfeld-Wittgenstein",
  "ana@contoso.com": "anna-katharina.muellerschoenfeld-wittgenstein@krankenhausverbund-nordrhein-westfalen.example",
  "bob@fabrikam.com": "a@donaudampfschifffahrtsgesellschaftskapitaensmuetzenabzeichen.example",
  "broker.contoso.com": "nachrichtenvermittlung-produktion-02.krankenhausverbund-nordrhein-westfalen.example",
  "Read your calendar": "Kalendereinträge und Besprechungsanfragen lesen",
  "Connect Microsoft 365": "Microsoft-365-Postfachverbindung einrichten",
  "Not now": "Vorerst nicht",
  "Use a different account": "Mit einem anderen Benutzerkonto anmelden",
  Disconnect: "Verbindung unterbrechen",
  "Unlink this computer": "Verknüpfung dieses Computers aufheben",
  "Copy request": "Freigabeanforderung kopieren",
  "Copy report": "Bericht kopieren",
  "Check again": "Nochmals prüfen",
  "What it may do": "Zugriffsberechtigungen",
  "Delivered through": "Zustellungsvermittlung",
  "Last checked": "Zuletzt überprüft",
  "Something not working?": "Funktioniert etwas nicht wie erwartet?",
  "Check my set-up": "Einrichtung überprüfen lassen",
  Settings: "Programmeinstellungen",
};

const longer = (value) =>
  JSON.parse(Object.entries(LONG).reduce((text, [short, long]) => text.replaceAll(short, long), JSON.stringify(value)));

// Shows the named screen; a click changes nothing but is written to the console, where `mockShow("waiting")` shows another.
export function mock(params) {
  const state = params.get("state");
  const screen = state in views ? state : "not_paired";
  const said = params.has("long") ? longer : (value) => value;
  const shown = (name) => said({ ...empty, screen: name, ...views[name] });
  return {
    view: async () => shown(screen),
    act: async (command) => console.info("act", JSON.stringify(command)),
    onView: async (listener) => (window.mockShow = (name) => listener(shown(name))),
    onOpen: async () => {},
    checkUp: async () => said(sheet),
    copyReport: async () => console.info("copy_report"),
    settings: async () => ({ autostart: false, version: "Valet Key 0.1.0" }),
    setAutostart: async () => {},
    quit: () => console.info("quit"),
  };
}
