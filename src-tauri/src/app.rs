//! Puts the parts together and runs until the person quits.

use std::sync::Arc;

use anyhow::Context;
use tauri::{App, AppHandle, Emitter, Manager, RunEvent, async_runtime};
use tauri_plugin_autostart::MacosLauncher;
use tauri_plugin_deep_link::DeepLinkExt;
use valetkey_companion::{Clock, Companion, Options, OsKeyring, Way};

use crate::args::{Args, Link};
use crate::shell::{self, LANGUAGE, Shell};
use crate::tray::Tray;
use crate::{commands, outlets, unseen, window};

/// The scheme of an invite link, as in the configuration.
const SCHEME: &str = "valetkey";

/// Runs the app; its exit code.
pub fn run(args: Args) -> anyhow::Result<i32> {
    let context = tauri::generate_context!();
    let unseen = match &args.link {
        Some(link) if link.is_on_input() => Some(unseen::read().context("the invite link cannot be read")?),
        _ => None,
    };
    if let Some(link) = &unseen
        && unseen::hand_over(link, &context.config().identifier)?
    {
        return Ok(0);
    }
    let app = tauri::Builder::default()
        // First: a second start must end before it touches anything.
        .plugin(tauri_plugin_single_instance::init(|app, argv, _| shell::started_again(app, argv)))
        .plugin(tauri_plugin_deep_link::init())
        .plugin(tauri_plugin_notification::init())
        .plugin(tauri_plugin_opener::init())
        .plugin(tauri_plugin_autostart::init(MacosLauncher::LaunchAgent, Some(vec!["--background"])))
        .invoke_handler(tauri::generate_handler![
            commands::view,
            commands::act,
            commands::check_up,
            commands::copy_report,
            commands::settings,
            commands::set_autostart,
            commands::quit
        ])
        .setup(move |app| Ok(set_up(app, args, unseen)?))
        .build(context)
        .context("the app could not start")?;
    Ok(app.run_return(|app, event| match event {
        // Closing the window leaves the tray; only Quit has a code.
        RunEvent::ExitRequested { code: None, api, .. } => api.prevent_exit(),
        RunEvent::Exit => async_runtime::block_on(app.state::<Shell>().stop()),
        _ => {}
    }))
}

fn set_up(app: &mut App, args: Args, unseen: Option<Link>) -> anyhow::Result<()> {
    // Only here is it known that this start is the one that stays.
    let link = match (unseen, args.link) {
        (Some(link), _) => Some(link),
        #[cfg(unix)]
        (None, Some(link)) => {
            let error = unseen::start_over(&link);
            tracing::warn!(%error, "the invite link stays in the command line");
            Some(link)
        }
        (None, link) => link,
    };
    let data_dir = match args.data_dir {
        Some(dir) => dir,
        None => {
            app.path().app_local_data_dir().context("this system has no place for the program's files")?
        }
    };
    let (outlets, requests) = tokio::sync::mpsc::unbounded_channel();
    let options = Options {
        keys: Arc::new(OsKeyring::new(&data_dir.display().to_string())),
        data_dir,
        outlets,
        clock: Clock::system(),
        language: LANGUAGE,
        device_name: gethostname::gethostname().to_string_lossy().into_owned(),
        sign_in: Way::Browser { port: None },
        policy_file: args.policy,
        broker_ca: args.broker_ca,
    };
    app.manage(Shell::new(async_runtime::block_on(async { Companion::start(options) })));

    let handle = app.handle();
    let view = app.state::<Shell>().views().borrow().clone();
    app.manage(Tray::new(handle, &view)?);
    async_runtime::spawn(paint_changes(handle.clone()));
    async_runtime::spawn(outlets::serve(handle.clone(), requests));
    #[cfg(unix)]
    async_runtime::spawn(quit_when_asked(handle.clone()));
    listen_for_links(handle);

    if let Some(link) = link {
        shell::show_invite(handle, link.into_invite());
    } else if args.open {
        window::open(handle);
    } else if !args.background {
        open_without_tray(handle.clone());
    }
    tracing::info!(version = %app.package_info().version, "started");
    Ok(())
}

/// Hands each change to the tray and to the window, if there is one.
async fn paint_changes(app: AppHandle) {
    let mut views = app.state::<Shell>().views();
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().clone();
        tracing::debug!(screen = ?view.screen, "shown");
        if let Err(error) = app.emit("view", &view) {
            tracing::warn!(%error, "the window could not be told");
        }
        let shared = app.clone();
        let queued = app.run_on_main_thread(move || {
            if let Err(error) = shared.state::<Tray>().paint(&view) {
                tracing::warn!(%error, "the tray could not be painted");
            }
        });
        if queued.is_err() {
            return; // The event loop has ended.
        }
    }
}

/// The system asks with a signal when the session ends.
#[cfg(unix)]
async fn quit_when_asked(app: AppHandle) {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    app.exit(0);
}

/// macOS hands a link to the running app; elsewhere it comes as an argument. There, the app makes itself the one that
/// opens such links, if an installer has not done so.
fn listen_for_links(app: &AppHandle) {
    if cfg!(target_os = "macos") {
        let opened = app.clone();
        app.deep_link().on_open_url(move |event| {
            for url in event.urls() {
                shell::show_invite(&opened, valetkey_companion::InviteLink::new(url.as_str()));
            }
        });
        return;
    }
    let app = app.clone();
    // Asks other programs, and takes its time.
    async_runtime::spawn_blocking(move || {
        let links = app.deep_link();
        if !links.is_registered(SCHEME).unwrap_or(false)
            && let Err(error) = links.register(SCHEME)
        {
            tracing::info!(%error, "invite links will have to be pasted");
        }
    });
}

/// Nobody should have to look for a program that shows nothing.
#[cfg(target_os = "linux")]
fn open_without_tray(app: AppHandle) {
    async_runtime::spawn(async move {
        if !crate::tray_host::appears().await {
            tracing::info!("this desktop shows no tray icons; the window opens instead");
            window::open(&app);
        }
    });
}

#[cfg(not(target_os = "linux"))]
fn open_without_tray(_: AppHandle) {}
