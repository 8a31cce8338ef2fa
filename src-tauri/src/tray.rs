//! Paints the tray: an icon by state, and the companion's menu.

use std::sync::Mutex;

use tauri::image::Image;
use tauri::menu::{IsMenuItem, Menu, MenuEvent, MenuItem, PredefinedMenuItem};
use tauri::tray::{MouseButton, MouseButtonState, TrayIcon, TrayIconBuilder, TrayIconEvent};
use tauri::{AppHandle, Manager, Wry, include_image};
use valetkey_companion::Command;
use valetkey_companion::menu::{self, Does, Item};
use valetkey_companion::view::{ActionId, Icon, View};

use crate::shell::{LANGUAGE, Shell};
use crate::window::{self, Panel};

/// Also the last part of its path on the session bus.
const ID: &str = "valetkey";

/// The tray as it was painted last.
pub struct Tray {
    icon: TrayIcon,
    painted: Mutex<Painted>,
}

struct Painted {
    icon: Icon,
    menu: menu::Menu,
    /// One for each item; separators have none.
    items: Vec<Option<MenuItem<Wry>>>,
}

impl Tray {
    pub fn new(app: &AppHandle, view: &View) -> tauri::Result<Self> {
        let (native, painted) = build(app, view.icon, menu::menu(view, LANGUAGE))?;
        let icon = TrayIconBuilder::with_id(ID)
            .icon(image(view.icon))
            .icon_as_template(true)
            .tooltip(&view.headline)
            .menu(&native)
            .show_menu_on_left_click(cfg!(target_os = "macos"))
            .on_menu_event(clicked)
            .on_tray_icon_event(|tray, event| {
                if let TrayIconEvent::Click {
                    button: MouseButton::Left,
                    button_state: MouseButtonState::Up,
                    ..
                } = event
                    && !cfg!(target_os = "macos")
                {
                    window::open(tray.app_handle());
                }
            })
            .build(app)?;
        Ok(Self { icon, painted: Mutex::new(painted) })
    }

    /// Changes what differs, and no more: an open menu would close. On the main thread only.
    pub fn paint(&self, view: &View) -> tauri::Result<()> {
        let Ok(mut painted) = self.painted.lock() else { return Ok(()) };
        if painted.icon != view.icon {
            self.icon.set_icon_with_as_template(Some(image(view.icon)), true)?;
            painted.icon = view.icon;
        }
        let wanted = menu::menu(view, LANGUAGE);
        if wanted == painted.menu {
            return Ok(());
        }
        self.icon.set_tooltip(Some(&view.headline))?;
        if same_shape(&painted.menu, &wanted) {
            for ((item, old), new) in painted.items.iter().zip(&painted.menu.0).zip(&wanted.0) {
                if let (Some(item), Some(words)) = (item, words(new))
                    && old != new
                {
                    item.set_text(literal(words))?;
                }
            }
            painted.menu = wanted;
        } else {
            let (native, fresh) = build(self.icon.app_handle(), view.icon, wanted)?;
            self.icon.set_menu(Some(native))?;
            *painted = fresh;
        }
        Ok(())
    }
}

fn build(app: &AppHandle, icon: Icon, menu: menu::Menu) -> tauri::Result<(Menu<Wry>, Painted)> {
    let native = Menu::new(app)?;
    let mut items = Vec::with_capacity(menu.0.len());
    for (index, item) in menu.0.iter().enumerate() {
        let Some(words) = words(item) else {
            native.append(&PredefinedMenuItem::separator(app)?)?;
            items.push(None);
            continue;
        };
        let (id, enabled) = match item {
            Item::Action(action) => (id(action.does)?, true),
            _ => (index.to_string(), false),
        };
        let made = MenuItem::with_id(app, id, literal(words), enabled, None::<&str>)?;
        native.append(&made as &dyn IsMenuItem<Wry>)?;
        items.push(Some(made));
    }
    Ok((native, Painted { icon, menu, items }))
}

/// What an item does is its name: a click does what its words say, also if another menu is painted by the time it is heard of.
fn id(does: Does) -> serde_json::Result<String> {
    serde_json::to_string(&does)
}

fn chosen(id: &str) -> Option<Does> {
    serde_json::from_str(id).ok()
}

#[allow(clippy::needless_pass_by_value)] // Tauri's signature.
fn clicked(app: &AppHandle, event: MenuEvent) {
    let Some(does) = chosen(&event.id().0) else { return };
    tracing::debug!(?does, "chosen in the tray");
    match does {
        Does::Act(id) => {
            if let Some(command) = command(id) {
                app.state::<Shell>().send(command);
            }
        }
        Does::OpenWindow => window::open(app),
        Does::Help => window::open_at(app, Panel::Help),
        Does::CheckUp => window::open_at(app, Panel::CheckUp),
        Does::Quit => app.exit(0),
    }
}

/// The command of the same name; `None` for those that need more than a click.
fn command(id: ActionId) -> Option<Command> {
    serde_json::from_value(serde_json::json!({ "do": id })).ok()
}

fn words(item: &Item) -> Option<&str> {
    match item {
        Item::Line(words) => Some(words),
        Item::Action(action) => Some(&action.label),
        Item::Separator => None,
    }
}

fn same_shape(one: &menu::Menu, other: &menu::Menu) -> bool {
    one.0.len() == other.0.len()
        && one.0.iter().zip(&other.0).all(|pair| match pair {
            (Item::Action(one), Item::Action(other)) => one.does == other.does,
            (Item::Line(_), Item::Line(_)) | (Item::Separator, Item::Separator) => true,
            _ => false,
        })
}

/// `&` marks a key in native menus.
fn literal(words: &str) -> String {
    words.replace('&', "&&")
}

#[cfg(not(target_os = "macos"))]
fn image(icon: Icon) -> Image<'static> {
    match icon {
        Icon::Neutral => include_image!("../icons/tray/neutral.png"),
        Icon::Busy => include_image!("../icons/tray/busy.png"),
        Icon::Ok => include_image!("../icons/tray/ok.png"),
        Icon::Attention => include_image!("../icons/tray/attention.png"),
        Icon::Offline => include_image!("../icons/tray/offline.png"),
    }
}

/// Black on clear: the system colours it to suit the menu bar.
#[cfg(target_os = "macos")]
fn image(icon: Icon) -> Image<'static> {
    match icon {
        Icon::Neutral => include_image!("../icons/tray/neutral-template.png"),
        Icon::Busy => include_image!("../icons/tray/busy-template.png"),
        Icon::Ok => include_image!("../icons/tray/ok-template.png"),
        Icon::Attention => include_image!("../icons/tray/attention-template.png"),
        Icon::Offline => include_image!("../icons/tray/offline-template.png"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_menu_offers_becomes_the_command_of_that_name() {
        assert_eq!(command(ActionId::Connect), Some(Command::Connect));
        assert_eq!(command(ActionId::Reconnect), Some(Command::Reconnect));
        assert_eq!(command(ActionId::PasteInvite), None);
    }

    #[test]
    fn a_click_does_what_its_words_said_whatever_is_painted_by_then() {
        for does in [Does::Act(ActionId::Retry), Does::Act(ActionId::Connect), Does::OpenWindow, Does::Quit] {
            assert_eq!(chosen(&id(does).unwrap()), Some(does));
        }
        assert_eq!(chosen("1"), None);
    }

    #[test]
    fn a_menu_whose_words_alone_changed_is_not_built_again() {
        let line = |words: &str| menu::Menu(vec![Item::Line(words.into()), Item::Separator]);
        assert!(same_shape(&line("Checking…"), &line("Connected")));
        assert!(!same_shape(&line("Checking…"), &menu::Menu(vec![Item::Separator])));
        assert_eq!(literal("Smith & Sons"), "Smith && Sons");
    }
}
