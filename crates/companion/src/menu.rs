//! The tray menu as a value: the shell compares it with what it painted last, and paints it again when it differs.

use serde::{Deserialize, Serialize};

use crate::texts::{Label, Language, Text, say};
use crate::view::{ActionId, AssistantCard, View};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Menu(pub Vec<Item>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Words only.
    Line(String),
    Action(MenuAction),
    Separator,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuAction {
    pub does: Does,
    pub label: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Does {
    /// Sends the command of this name.
    Act(ActionId),
    /// Opens the window, where the same thing is asked or confirmed first.
    OpenWindow,
    Help,
    /// Opens the window and checks the set-up there.
    CheckUp,
    Quit,
}

/// The menu of a view. What makes no sense now is absent, not grey.
pub fn menu(view: &View, language: Language) -> Menu {
    let mut items = vec![Item::Line(view.headline.clone())];
    if let Some(action) = view.actions.first() {
        // A menu cannot ask "are you sure", show who invites, or take a pasted link: the window can.
        let in_window =
            action.confirm.is_some() || matches!(action.id, ActionId::PasteInvite | ActionId::AcceptInvite);
        let does = if in_window { Does::OpenWindow } else { Does::Act(action.id) };
        items.push(Item::Action(MenuAction { does, label: action.label.clone() }));
    }
    items.push(Item::Separator);
    let cards = items.len();
    items.extend(
        view.accounts.iter().map(|account| line(language, Text::AccountLine { address: &account.address })),
    );
    items.extend(view.assistant.as_ref().map(|AssistantCard { name, online, .. }| {
        line(language, Text::AssistantLine { agent: name, online: *online })
    }));
    if items.len() > cards {
        items.push(Item::Separator);
    }
    for (does, text) in [
        (Does::OpenWindow, Text::OpenWindow),
        (Does::Help, Text::Help),
        (Does::CheckUp, Text::Label(Label::CheckUp)),
        (Does::Quit, Text::Quit),
    ] {
        items.push(Item::Action(MenuAction { does, label: say(language, text) }));
    }
    Menu(items)
}

fn line(language: Language, text: Text<'_>) -> Item {
    Item::Line(say(language, text))
}
