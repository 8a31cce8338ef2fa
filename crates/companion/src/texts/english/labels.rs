//! The window's static words.

use crate::texts::Label;

pub(super) fn label(label: Label) -> &'static str {
    match label {
        Label::Title => "Valet Key",
        Label::Assistant => "Assistant",
        Label::Accounts => "Accounts",
        Label::Activity => "Activity",
        Label::NoActivity => "Nothing yet",
        Label::Reads => "What it may do",
        Label::AskedBy => "Asked by",
        Label::For => "For",
        Label::Expires => "Invite ends",
        Label::CompareWords => "Four words",
        Label::CompareWordsHow => "The person who sent the invite sees the same four words.",
        Label::Broker => "Delivered through",
        Label::SignInAt => "Sign in at",
        Label::LastChecked => "Last checked",
        Label::LastSeen => "Last heard from",
        Label::TimeLeft => "Time left",
        Label::Steps => "Steps",
        Label::Done => "done",
        Label::Copied => "Copied",
        Label::InvitePlaceholder => "valetkey://invite/…",
        Label::InviteField => "Invite link",
        Label::InviteHint => "The whole message will do; the link in it is found.",
        Label::Request => "Message for your administrator",
        Label::Confirm => "Yes, go on",
        Label::Back => "Back",
        Label::Today => "Today",
        Label::Yesterday => "Yesterday",
        Label::Help => "Help",
        Label::HelpWhat => {
            "Valet Key lets your assistant use what you allow in Microsoft 365, and nothing else. You sign in on this \
             computer, at Microsoft; your password goes nowhere else."
        }
        Label::HelpPrivate => {
            "What your assistant receives is sealed for it alone, and this computer keeps no copy."
        }
        Label::HelpStop => "To stop, choose Disconnect: your assistant then deletes its access.",
        Label::HelpWho => "If something does not work, ask the person who sent you the invite.",
        Label::CheckUp => "Check my set-up",
        Label::CheckUpAsk => "Something not working?",
        Label::CheckUpBusy => "Checking… This can take half a minute.",
        Label::CheckUpAgain => "Check again",
        Label::Report => "Report for whoever helps you",
        Label::ReportHow => "It has no password and nobody's name in it. Read it before you send it.",
        Label::CopyReport => "Copy report",
        Label::Settings => "Settings",
        Label::Autostart => "Start Valet Key when I log in",
        Label::AutostartFailed => "This computer did not let that setting be changed.",
        Label::Quit => "Quit",
    }
}
