//! The command line of `valetkey-agent`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use url::Url;

#[derive(Debug, Parser)]
#[command(
    name = "valetkey-agent",
    version,
    about = "Keeps the sign-ins people hand over with Valet Key, renews them, and gives programs what they need",
    after_help = "Examples:\n  \
        valetkey-agent init --name \"Ana's assistant\" --client-id 11111111-2222-3333-4444-555555555555\n  \
        valetkey-agent serve\n  \
        valetkey-agent invite --email ana@contoso.com\n  \
        curl -H \"Authorization: Bearer $(valetkey-agent token --account ana@contoso.com)\" \\\n    \
        https://graph.microsoft.com/v1.0/me/messages\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a person must connect or reconnect,\n\
        4 an administrator or the operator must change something, 5 try again later."
)]
pub struct Cli {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
pub struct Place {
    /// Where keys and sign-ins are kept (default: $STATE_DIRECTORY under systemd, else the system's convention)
    #[arg(long, global = true, env = "VALETKEY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The configuration file (default: agent.toml in the state directory)
    #[arg(long, global = true, env = "VALETKEY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A broker of yours instead of the configured one, for the agent and for devices: mqtt, mqtts, ws or wss
    #[arg(long, global = true, env = "VALETKEY_BROKER", value_name = "URL")]
    pub broker: Option<Url>,
    /// An open file descriptor to read the vault's key from, where the vault is sealed (default: systemd's credential
    /// `vault-key`, else key_file in the configuration)
    #[arg(long, global = true, env = "VALETKEY_VAULT_KEY_FD", value_name = "N")]
    pub vault_key_fd: Option<u16>,
    /// Print one JSON object for a program to read
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Look for altered, lost and reordered lines; exit code 1 if there are any
    Verify,
}

#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Make a key; it is printed, or written to a new file of mode 0600
    #[command(after_help = "Example:\n  valetkey-agent vault keygen --out /etc/valetkey/vault-key")]
    Keygen {
        /// Where to write it; an existing file is not overwritten
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Seal everything with the given key
    #[command(
        after_help = "Example:\n  valetkey-agent vault seal --vault-key-fd 3 3</etc/valetkey/vault-key"
    )]
    Seal,
    /// Write everything in clear again
    #[command(
        after_help = "Example:\n  valetkey-agent vault unseal --vault-key-fd 3 3</etc/valetkey/vault-key\n\n\
        Take the key out of the service's configuration as well: with one, the agent does not start on a vault in clear."
    )]
    Unseal,
    /// Seal everything with a new key instead of the present one; may be interrupted at any moment
    #[command(
        after_help = "Example:\n  valetkey-agent vault rotate --vault-key-fd 3 --new-key-fd 4 \\\n    \
        3</etc/valetkey/vault-key 4</etc/valetkey/vault-key.new\n\n\
        If it was interrupted, run it again with the same two keys. Until then one of the two opens\n\
        everything; a start with the other one says so and changes nothing."
    )]
    Rotate {
        /// An open file descriptor to read the new key from (default: systemd's credential `vault-key-new`)
        #[arg(long, value_name = "N")]
        new_key_fd: Option<u16>,
    },
    /// Whether the vault is sealed, and whether a given key opens it; needs no key, and may run beside the daemon
    #[command(after_help = "Examples:\n  valetkey-agent vault status --json\n  \
        valetkey-agent vault status --vault-key-fd 3 3</etc/valetkey/vault-key")]
    Status,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the keys and a configuration file to start from
    #[command(after_help = "Example:\n  valetkey-agent init --name \"Ana's assistant\" \\\n    \
        --client-id 11111111-2222-3333-4444-555555555555 --tenant organizations")]
    Init {
        /// How the assistant introduces itself to people
        #[arg(long)]
        name: Option<String>,
        /// The application (client) id of your app registration
        #[arg(long)]
        client_id: Option<String>,
        /// Who may sign in: a directory (tenant) id, or organizations, consumers (personal accounts) or common (both)
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Run: take in handoffs, renew sign-ins, answer programs
    #[command(after_help = "Examples:\n  valetkey-agent serve\n  \
        valetkey-agent serve --broker mqtts://broker.example.com:8883\n\n\
        Without a broker configured, a mosquitto of the agent's own is run on loopback, and an invite works\n\
        on this machine only; own_broker in the configuration gives it another address.")]
    Serve,
    /// Invite one person: prints a link, a QR code and the four words they will see
    #[command(after_help = "Examples:\n  valetkey-agent invite --email ana@contoso.com\n  \
        valetkey-agent invite --email ana@contoso.com --allow mail,calendar --expires 1h --json")]
    Invite {
        /// The person's address; nobody else can use the invite
        #[arg(long)]
        email: Option<String>,
        /// What to ask for, e.g. mail,calendar (default: `allow` in the configuration)
        #[arg(long, value_delimiter = ',')]
        allow: Vec<String>,
        /// How long the link is good for: 90s, 10m, 2h, 7d (default: `invite_expires` in the configuration, 10m at first)
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
    },
    /// List the paired computers, or remove one
    #[command(after_help = "Examples:\n  valetkey-agent devices\n  valetkey-agent devices --remove 5f0cSq")]
    Devices {
        /// Forget this computer: its id as `devices` lists it, or the beginning of it
        // One id in 64 begins with a hyphen.
        #[arg(long, value_name = "ID", allow_hyphen_values = true)]
        remove: Option<String>,
    },
    /// List the sign-ins that are held, and how each is
    #[command(after_help = "Example:\n  valetkey-agent accounts --json")]
    Accounts,
    /// Print an access token that is good now
    #[command(after_help = "Examples:\n  valetkey-agent token --account ana@contoso.com\n  \
        valetkey-agent token --account ana@contoso.com --resource outlook --json\n\n\
        In an MCP client's mcp.json, with no credential in it:\n  \
        \"headersHelper\": \"valetkey-agent token --account ana@contoso.com --resource workiq --headers\"")]
    Token {
        /// The address, or the id `accounts` prints; may be left out when there is only one
        #[arg(long)]
        account: Option<String>,
        /// graph, outlook or workiq
        #[arg(long, default_value = "graph")]
        resource: String,
        /// Print the headers of a request instead, as MCP clients want them: {"Authorization": "Bearer …"}
        #[arg(long)]
        headers: bool,
    },
    /// Write a copy of a sign-in as an MSAL token cache, for one program that reads those
    #[command(
        after_help = "Example:\n  valetkey-agent export --account ana@contoso.com --msal cache.json\n\n\
        The copy is a sign-in of its own from then on: whoever has the file can read that mailbox."
    )]
    Export {
        /// The address, or the id `accounts` prints; may be left out when there is only one
        #[arg(long)]
        account: Option<String>,
        /// Where to write it (mode 0600); an existing file is not overwritten
        #[arg(long, value_name = "FILE")]
        msal: PathBuf,
    },
    /// Forget a sign-in: its tokens are deleted here
    #[command(after_help = "Example:\n  valetkey-agent remove --account ana@contoso.com\n\n\
        Microsoft has no way to withdraw one sign-in from outside. To end every sign-in of the person, an\n\
        administrator revokes their sessions in Microsoft Entra.")]
    Remove {
        /// The address, or the id `accounts` prints
        #[arg(long)]
        account: String,
    },
    /// Whether the agent runs and what it waits for
    #[command(after_help = "Example:\n  valetkey-agent status --json\n\n\
        Exit codes: 0 all is well, 1 the agent does not run, 3 a person must reconnect, 4 an account is\n\
        blocked until an administrator or the operator changes something, 5 the broker is not reached at\n\
        the moment.")]
    Status,
    /// What was done with the sign-ins, and who was given tokens
    #[command(after_help = "Examples:\n  valetkey-agent audit --last 200\n  valetkey-agent audit verify\n\n\
        The files are audit/*.jsonl in the state directory; docs/audit.md says what is in them.")]
    Audit {
        /// How many lines
        #[arg(long, value_name = "N", default_value_t = 50,
            value_parser = clap::value_parser!(u32).range(1..=i64::from(crate::audit::MAX_LINES)))]
        last: u32,
        #[command(subcommand)]
        command: Option<AuditCommand>,
    },
    /// Look at everything the agent needs, and say what does not work and what to do
    #[command(
        after_help = "Examples:\n  valetkey-agent doctor\n  valetkey-agent doctor --report report.txt\n\n\
        Exit codes: 0 everything works (there may be warnings), 1 something does not.\n\
        A report holds no password, key, token, invite or name, and calls servers by their names. Read it before you \
        send it."
    )]
    Doctor {
        /// Write a report to send to whoever helps, mode 0600; `-` prints it. An existing file is not overwritten
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Seal the vault at rest, so that a stolen disk or backup is worth nothing without the key
    #[command(after_help = "Examples:\n  valetkey-agent vault keygen --out /etc/valetkey/vault-key\n  \
        valetkey-agent vault seal --vault-key-fd 3 3</etc/valetkey/vault-key\n  \
        valetkey-agent serve --vault-key-fd 3 3</etc/valetkey/vault-key\n\n\
        The key comes by file descriptor, as systemd's credential `vault-key`, or from key_file in the\n\
        configuration; never on a command line or in a variable. seal, unseal and rotate want the daemon\n\
        stopped. Without the key the sign-ins are lost: keep a copy of it, and not beside the backups.")]
    Vault {
        #[command(subcommand)]
        command: VaultCommand,
    },
    /// Print a completion script
    #[command(after_help = "Example, for this shell; as a line of ~/.bashrc, for each:\n  \
        source <(valetkey-agent completions bash)")]
    Completions { shell: clap_complete::Shell },
}
