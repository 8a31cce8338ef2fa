//! English. What happened, why, what next; two sentences at most. By subject: this file, and those in `english/`.

mod doctor;
mod labels;
mod problems;

pub(super) use doctor::check;
use problems::{admin_request, reason, remedy, what};

use super::{AccountStatus, Asks, Button, Step, Text};

#[allow(clippy::too_many_lines)] // One line a text; splitting would only hide which are missing.
pub(super) fn say(text: Text<'_>) -> String {
    match text {
        Text::Checking => "Checking…".into(),
        Text::NotPaired => "Not linked to an assistant yet".into(),
        Text::NotPairedHow => "Ask whoever runs your assistant for an invite link, and open or paste it here.".into(),
        Text::InvitedBy { agent, to } => match to {
            Asks::Read => format!("{agent} asks to read your Microsoft 365"),
            Asks::Send => format!("{agent} asks to read your Microsoft 365 and send mail as you"),
            Asks::Change => format!("{agent} asks to read and change your Microsoft 365"),
            Asks::ChangeAndSend => {
                format!("{agent} asks to read and change your Microsoft 365 and send mail as you")
            }
            Asks::Unknown => format!("{agent} asks for access to your Microsoft 365"),
        },
        Text::InvitedFor { email } => {
            format!("This invite is for {email}. Compare the four words with the person who sent it before you connect.")
        }
        Text::InvitedForAnyone => "Compare the four words with the person who sent this before you connect.".into(),
        Text::AnotherInviteFailed => {
            "Another link couldn't be used; this is still the one before it. Compare the four words before you connect."
                .into()
        }
        Text::InvitedElsewhere { host } => {
            format!("You would sign in at {host}, which isn't Microsoft's. Connect only if your organisation runs it.")
        }
        Text::NotConnected => "Microsoft 365 isn't connected".into(),
        Text::NotConnectedWhy { agent } => format!("Connect it, and {agent} can use what you allow."),
        Text::Pairing => "Linking to your assistant…".into(),
        Text::Starting => "Opening your browser…".into(),
        Text::Waiting => "Finish signing in in your browser".into(),
        Text::WaitingFor { address } => format!("Sign in as {address}. Closed the page? Open it again, or copy the link."),
        Text::WaitingWithCode { code } => format!("Enter the code {code} in a browser"),
        Text::DeviceCodeWarning { link } => {
            format!(
                "Open {link} there, and go on only if you asked for this code yourself. Signing in with a code is weaker \
                 than in your own browser, and many organisations block it."
            )
        }
        Text::Finishing => "Checking your sign-in…".into(),
        Text::HandingOver => "Handing over to your assistant…".into(),
        Text::HandingOverTo { agent } => format!("Waiting for {agent} to confirm."),
        Text::Connected { address, read_only: true } => format!("Connected · {address} · read-only"),
        Text::Connected { address, read_only: false } => format!("Connected · {address}"),
        Text::ConnectedRetrying => "Microsoft is slow to answer your assistant. It keeps trying by itself.".into(),
        Text::AgentOffline => "Your assistant is offline".into(),
        Text::AgentOfflinePending => "Nothing to do; we'll finish when it's back.".into(),
        Text::AgentOfflineIdle => "Nothing to do; your sign-in is kept, and we'll check again when it's back.".into(),
        Text::NoNetwork => "No connection to your assistant".into(),
        Text::NoNetworkDetail => "Check this computer's network; we keep trying by ourselves.".into(),
        Text::BrokerNotSecure => {
            "A secure connection could not be made. If your company's network checks secure traffic, its certificate \
             must be installed on this computer."
                .into()
        }
        Text::BrokerWrongName => {
            "Another server answers in its place: its certificate is for another name. Nothing was sent; tell whoever \
             runs your assistant."
                .into()
        }
        Text::BrokerExpired => {
            "The certificate of the server in between is not valid at this time. Check this computer's date and time; \
             if they are right, tell whoever runs your assistant."
                .into()
        }
        Text::BrokerRefused => {
            "The server between you and your assistant does not let this computer in. Ask whoever runs your assistant \
             for a new invite."
                .into()
        }
        Text::BrokerWantsCertificate => {
            "The server between you and your assistant lets in only computers with a certificate, and this one has none \
             that it accepts. Tell your administrator."
                .into()
        }
        Text::Reconnect | Text::LapseTitle => "Microsoft needs you to sign in again".into(),
        Text::WrongAccount { signed_in_as, wanted } => {
            format!("You signed in as {signed_in_as}, but this is for {wanted}")
        }
        Text::WrongAccountDetail => "Nothing was sent. Sign in again with the right account.".into(),
        Text::Blocked => "An administrator must allow this first".into(),
        Text::BlockedDetail => "Copy the request and send it to your administrator; then try again.".into(),
        Text::Reason(code) => reason(code).into(),
        Text::ProblemWhat(problem) => what(problem),
        Text::ProblemRemedy(problem) => remedy(problem),
        Text::AdminRequest(request) => admin_request(request),
        Text::Button(button) => self::button(button).into(),
        Text::ConfirmDisconnect { agent } => {
            format!("{agent} deletes its access to this account and can no longer read it.")
        }
        Text::ConfirmUnpair { agent } => {
            format!("{agent} is asked to delete its access, and this computer forgets it. You need a new invite to link again.")
        }
        Text::ConfirmReplace { agent } => format!("This ends your link to {agent}."),
        Text::Step(step) => self::step(step).into(),
        Text::AssistantOnline => "Online".into(),
        Text::AssistantOffline => "Offline".into(),
        Text::AssistantUnknown => "Not heard from yet".into(),
        Text::AccountStatus(status) => account_status(status),
        Text::AccountLine { address } => format!("Account: {address}"),
        Text::AssistantLine { agent, online: Some(true) } => format!("Assistant: {agent} · online"),
        Text::AssistantLine { agent, online: Some(false) } => format!("Assistant: {agent} · offline"),
        Text::AssistantLine { agent, online: None } => format!("Assistant: {agent}"),
        Text::Reads(capability) => reads(capability),
        Text::OpenWindow => "Open Valet Key".into(),
        Text::Quit => "Quit".into(),
        Text::Help => "Help".into(),
        Text::Label(label) => labels::label(label).into(),
        Text::DidPair { agent } => format!("This computer was linked to {agent}"),
        Text::DidSignIn { address } => format!("You signed in as {address}"),
        Text::DidConnect { address } => format!("Your assistant confirmed its access to {address}"),
        Text::DidRenew => "Your assistant renewed its access".into(),
        Text::DidLapse { address } => format!("Microsoft asked for a new sign-in for {address}"),
        Text::DidBlock { address } => format!("An administrator's setting stopped access to {address}"),
        Text::DidDisconnect { address } => format!("Your assistant no longer has access to {address}"),
        Text::DidCancel => "Signing in was cancelled; nothing was sent".into(),
        Text::LapseBody { address } => {
            format!("Your assistant can't read {address} until you do. Open Valet Key and choose Reconnect.")
        }
        Text::BlockedTitle => "An administrator must allow something".into(),
        Text::BlockedBody { address } => {
            format!("Your assistant can't read {address}. Open Valet Key to copy the request for your administrator.")
        }
        Text::PageSignedIn { address } => format!("You're signed in as {address}"),
        Text::PageClose => "You can close this tab.".into(),
        Text::PageWrongAccount => "That's a different account".into(),
        Text::PageWrongAccountDetail { signed_in_as, wanted } => {
            format!("You signed in as {signed_in_as}, but this is for {wanted}. Nothing was sent; go back to Valet Key and choose “Use a different account”.")
        }
        Text::PageCancelled => "Sign-in cancelled".into(),
        Text::PageCancelledDetail => "Nothing was sent. You can close this tab, and connect whenever you like.".into(),
        Text::PageProblem => "Signing in didn't work".into(),
        Text::Checked { problems, warnings } => doctor::checked(problems, warnings),
        Text::Level(level) => doctor::level(level).into(),
        Text::TerminalLink => "If no browser opens, open this address yourself:".into(),
        Text::TerminalNotAsked => "Nobody can be asked here. To agree without being asked, add --yes.".into(),
        Text::TerminalDeclined => "Nothing was linked and nothing was sent.".into(),
        Text::TerminalLater { connect } => {
            format!("It is sealed and kept on this computer; run `{connect}` to send it when your assistant is back.")
        }
        Text::TerminalNotLinked { connect } => {
            format!("Your assistant has not confirmed the link yet. Run `{connect}` soon: after the invite's end it would need another one.")
        }
        Text::TerminalNoKeyring => {
            "On a machine without one, add --key-file FILE to keep this computer's keys in a file, the same with every command."
                .into()
        }
        Text::TerminalUnpaired => "This computer is not linked to an assistant any more.".into(),
        Text::PageOldLink => "This sign-in link isn't in use any more".into(),
        Text::PageBack => "You can close this tab and go back to Valet Key.".into(),
    }
}

fn button(button: Button) -> &'static str {
    match button {
        Button::PasteInvite => "Paste invite",
        Button::Accept => "Connect",
        Button::Decline => "Not now",
        Button::Connect => "Connect Microsoft 365",
        Button::Cancel => "Cancel",
        Button::OpenAgain => "Open again",
        Button::CopyLink => "Copy link",
        Button::Reconnect => "Reconnect",
        Button::Disconnect => "Disconnect",
        Button::UseDifferentAccount => "Use a different account",
        Button::CopyRequest => "Copy request",
        Button::TryAgain => "Try again",
        Button::CheckAgain => "Check again",
        Button::SendAgain => "Send again",
        Button::Unpair => "Unlink this computer",
        Button::Dismiss => "OK",
    }
}

fn step(step: Step) -> &'static str {
    match step {
        Step::SignedIn => "Signed in",
        Step::Checked => "Checked that it's you",
        Step::Sealed => "Sealed for your assistant",
        Step::Delivered => "Delivered",
        Step::Stored => "Confirmed by your assistant",
    }
}

fn account_status(status: AccountStatus<'_>) -> String {
    match status {
        AccountStatus::Connected => "Connected".into(),
        AccountStatus::Retrying => "Microsoft is slow to answer; trying again".into(),
        AccountStatus::ReconnectNeeded { reason: Some(code) } => reason(code).into(),
        AccountStatus::ReconnectNeeded { reason: None } => "Sign in again".into(),
        AccountStatus::Blocked => "Stopped by an administrator's setting".into(),
        AccountStatus::Unknown => "Not checked yet".into(),
    }
}

fn reads(capability: &str) -> String {
    match capability {
        "mail" => "Read your mail".into(),
        "calendar" => "Read your calendar".into(),
        "imap" => "Read, change and delete your mail with a mail program".into(),
        "workiq" => "Ask Microsoft 365 Copilot about your work".into(),
        "mail-shared" => "Read mailboxes shared with you".into(),
        "calendar-shared" => "Read calendars shared with you".into(),
        "mail-send" => "Send mail as you".into(),
        "mail-write" => "Change and delete your mail".into(),
        "calendar-write" => "Change and delete calendar entries".into(),
        other => format!("Something this version doesn't know: {other}"),
    }
}
