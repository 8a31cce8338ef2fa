//! The keys of every sentence a person sees. The words are in one place per language; a language is complete when it
//! compiles.

use valetkey_checkup::{Finding, Level};

use crate::doctor::Check;
use crate::problem::Problem;

mod english;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    English,
}

impl Language {
    /// As in HTML's `lang` (BCP 47).
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
        }
    }
}

/// What is to be said, with what it is about. Rendered by [`say`].
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    // Headlines and the sentence below them.
    Checking,
    NotPaired,
    NotPairedHow,
    InvitedBy {
        agent: &'a str,
        to: Asks,
    },
    InvitedFor {
        email: &'a str,
    },
    InvitedForAnyone,
    AnotherInviteFailed,
    InvitedElsewhere {
        host: &'a str,
    },
    NotConnected,
    NotConnectedWhy {
        agent: &'a str,
    },
    Pairing,
    Starting,
    Waiting,
    WaitingFor {
        address: &'a str,
    },
    WaitingWithCode {
        code: &'a str,
    },
    DeviceCodeWarning {
        link: &'a str,
    },
    Finishing,
    HandingOver,
    HandingOverTo {
        agent: &'a str,
    },
    Connected {
        address: &'a str,
        read_only: bool,
    },
    ConnectedRetrying,
    AgentOffline,
    AgentOfflinePending,
    AgentOfflineIdle,
    NoNetwork,
    NoNetworkDetail,
    BrokerNotSecure,
    BrokerWrongName,
    BrokerExpired,
    BrokerRefused,
    BrokerWantsCertificate,
    Reconnect,
    WrongAccount {
        signed_in_as: &'a str,
        wanted: &'a str,
    },
    WrongAccountDetail,
    Blocked,
    BlockedDetail,
    /// Why an account needs somebody: the assistant's reason code.
    Reason(&'a str),
    ProblemWhat(&'a Problem),
    ProblemRemedy(&'a Problem),
    /// The message for an administrator.
    AdminRequest(AdminRequest<'a>),

    // Buttons.
    Button(Button),
    ConfirmDisconnect {
        agent: &'a str,
    },
    ConfirmUnpair {
        agent: &'a str,
    },
    ConfirmReplace {
        agent: &'a str,
    },

    // Steps, cards and the tray.
    Step(Step),
    AssistantOnline,
    AssistantOffline,
    AssistantUnknown,
    AccountStatus(AccountStatus<'a>),
    AccountLine {
        address: &'a str,
    },
    AssistantLine {
        agent: &'a str,
        online: Option<bool>,
    },
    Reads(&'a str),
    OpenWindow,
    Quit,
    Help,
    Label(Label),

    // The activity list.
    DidPair {
        agent: &'a str,
    },
    DidSignIn {
        address: &'a str,
    },
    DidConnect {
        address: &'a str,
    },
    DidRenew,
    DidLapse {
        address: &'a str,
    },
    DidBlock {
        address: &'a str,
    },
    DidDisconnect {
        address: &'a str,
    },
    DidCancel,

    // Notifications.
    LapseTitle,
    LapseBody {
        address: &'a str,
    },
    BlockedTitle,
    BlockedBody {
        address: &'a str,
    },

    // The check of the set-up.
    Checked {
        problems: usize,
        warnings: usize,
    },
    Level(Level),

    // The terminal.
    TerminalLink,
    TerminalNotAsked,
    TerminalDeclined,
    TerminalLater {
        /// The whole command.
        connect: &'a str,
    },
    TerminalNotLinked {
        connect: &'a str,
    },
    TerminalNoKeyring,
    TerminalUnpaired,

    // Pages in the browser.
    PageSignedIn {
        address: &'a str,
    },
    PageClose,
    PageWrongAccount,
    PageWrongAccountDetail {
        signed_in_as: &'a str,
        wanted: &'a str,
    },
    PageCancelled,
    PageCancelledDetail,
    PageProblem,
    PageOldLink,
    PageBack,
}

/// What an assistant may do with all that it asks for, in a few words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    Read,
    Send,
    Change,
    ChangeAndSend,
    /// Something of it is not known to this version.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub struct AdminRequest<'a> {
    pub agent: &'a str,
    pub address: &'a str,
    pub client_id: &'a str,
    pub tenant: &'a str,
    pub permissions: &'a [String],
    pub reason: &'a str,
    pub aadsts: &'a [u32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    PasteInvite,
    Accept,
    Decline,
    Connect,
    Cancel,
    OpenAgain,
    CopyLink,
    Reconnect,
    Disconnect,
    UseDifferentAccount,
    CopyRequest,
    TryAgain,
    CheckAgain,
    SendAgain,
    Unpair,
    Dismiss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    SignedIn,
    Checked,
    Sealed,
    Delivered,
    Stored,
}

#[derive(Clone, Copy, Debug)]
pub enum AccountStatus<'a> {
    Connected,
    Retrying,
    ReconnectNeeded {
        reason: Option<&'a str>,
    },
    Blocked,
    /// Not heard of in this run.
    Unknown,
}

/// The window's static words; the name is the key in [`crate::view::View::labels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Title,
    Assistant,
    Accounts,
    Activity,
    NoActivity,
    Reads,
    AskedBy,
    For,
    Expires,
    CompareWords,
    CompareWordsHow,
    Broker,
    SignInAt,
    LastChecked,
    LastSeen,
    TimeLeft,
    Steps,
    Done,
    Copied,
    InvitePlaceholder,
    InviteField,
    InviteHint,
    Request,
    Confirm,
    Back,
    Today,
    Yesterday,
    Help,
    HelpWhat,
    HelpPrivate,
    HelpStop,
    HelpWho,
    CheckUp,
    CheckUpAsk,
    CheckUpBusy,
    CheckUpAgain,
    Report,
    ReportHow,
    CopyReport,
    Settings,
    Autostart,
    AutostartFailed,
    Quit,
}

impl Label {
    pub const ALL: [(Self, &'static str); 43] = [
        (Self::Title, "title"),
        (Self::Assistant, "assistant"),
        (Self::Accounts, "accounts"),
        (Self::Activity, "activity"),
        (Self::NoActivity, "no_activity"),
        (Self::Reads, "reads"),
        (Self::AskedBy, "asked_by"),
        (Self::For, "for"),
        (Self::Expires, "expires"),
        (Self::CompareWords, "compare_words"),
        (Self::CompareWordsHow, "compare_words_how"),
        (Self::Broker, "broker"),
        (Self::SignInAt, "sign_in_at"),
        (Self::LastChecked, "last_checked"),
        (Self::LastSeen, "last_seen"),
        (Self::TimeLeft, "time_left"),
        (Self::Steps, "steps"),
        (Self::Done, "done"),
        (Self::Copied, "copied"),
        (Self::InvitePlaceholder, "invite_placeholder"),
        (Self::InviteField, "invite_field"),
        (Self::InviteHint, "invite_hint"),
        (Self::Request, "request"),
        (Self::Confirm, "confirm"),
        (Self::Back, "back"),
        (Self::Today, "today"),
        (Self::Yesterday, "yesterday"),
        (Self::Help, "help"),
        (Self::HelpWhat, "help_what"),
        (Self::HelpPrivate, "help_private"),
        (Self::HelpStop, "help_stop"),
        (Self::HelpWho, "help_who"),
        (Self::CheckUp, "check_up"),
        (Self::CheckUpAsk, "check_up_ask"),
        (Self::CheckUpBusy, "check_up_busy"),
        (Self::CheckUpAgain, "check_up_again"),
        (Self::Report, "report"),
        (Self::ReportHow, "report_how"),
        (Self::CopyReport, "copy_report"),
        (Self::Settings, "settings"),
        (Self::Autostart, "autostart"),
        (Self::AutostartFailed, "autostart_failed"),
        (Self::Quit, "quit"),
    ];
}

/// The sentence, in the person's language.
pub fn say(language: Language, text: Text<'_>) -> String {
    match language {
        Language::English => english::say(text),
    }
}

/// What a check of the set-up found, in the person's language.
pub(crate) fn check(language: Language, check: &Check) -> Finding {
    match language {
        Language::English => english::check(check),
    }
}

#[cfg(test)]
mod tests;
