//! The arguments of the `ctimanager` command, and which function carries each out.

use super::socket::{self, Question};
use super::{Format, Outcome, api, bench, check_config, demo, explain, password, pki, run};
use clap::{Parser, Subcommand};
use rand::TryRng;
use rand::rngs::SysRng;
use security::Transport;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// An open, cluster-aware CTIManager.
#[derive(Debug, Parser)]
#[command(name = "ctimanager", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until a signal or `stop` ends it
    Run(run::Run),
    /// The main job in one command: a node, an application and a real call, with nothing to prepare
    Demo(demo::Demo),
    /// Measure a node of its own on this machine: times, processor time and memory of calls
    Bench(bench::Bench),
    #[command(flatten)]
    Ask(Question),
    /// Show every mistake of a configuration (exit code 0: none, 1: some)
    CheckConfig {
        /// A file, or a folder whose *.yaml are read as one
        path: PathBuf,
        #[arg(long, value_enum, default_value_t)]
        output: Format,
    },
    /// Make the cluster's own certificates
    #[command(subcommand)]
    Pki(Pki),
    /// Make an argon2id hash of a password, from a prompt or stdin
    HashPassword,
    /// May this user open that device, or this device or trunk dial that number, and which line decides it? (exit code 0:
    /// yes, 1: no)
    #[command(group(clap::ArgGroup::new("who").required(true).args(["user", "from"])))]
    Explain {
        /// The device's name, or with --from the number
        #[arg(value_name = "DEVICE|NUMBER")]
        what: String,
        /// The id of the user who would open the device
        #[arg(long)]
        user: Option<String>,
        /// The device or trunk that would dial the number
        #[arg(long, value_name = "DEVICE|TRUNK")]
        from: Option<String>,
        /// By which of the device's lines; the first when left out
        #[arg(long, value_name = "DN", conflicts_with = "user")]
        line: Option<String>,
        /// As if the application came over the plain port; asks the file of --config, not the running node
        #[arg(long, requires = "config", conflicts_with = "from")]
        plain: bool,
        /// Asked without --socket, a configuration answers by itself, whether its node runs or not
        #[command(flatten)]
        node: socket::Node,
    },
    /// Print the CTI protocol as an OpenRPC document
    Api {
        /// The configuration whose nodes the document's `servers` are; without it they are the usual ports of localhost
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration
    ConfigSchema,
}

#[derive(Debug, Subcommand)]
enum Pki {
    /// Make the authority (never over another) and a certificate for each node that has none
    Init {
        /// The folder for them
        dir: PathBuf,
        /// The configuration that names the nodes; without it there is one, cm1
        #[arg(long)]
        config: Option<PathBuf>,
        /// Make new certificates for all nodes; the authority stays
        #[arg(long)]
        renew: bool,
    },
    /// Make an application's certificate, with which it needs no password
    Client {
        /// The folder that `pki init` made
        dir: PathBuf,
        /// The user's id
        #[arg(long)]
        user: String,
        /// Replace the user's certificate
        #[arg(long)]
        renew: bool,
    },
    /// Take certificates back: `reload` closes the sessions that came with them
    #[command(group = clap::ArgGroup::new("what").required(true).args(["user", "certificate"]))]
    Revoke {
        /// The folder that `pki init` made
        dir: PathBuf,
        /// All certificates of this user
        #[arg(long)]
        user: Option<String>,
        /// The certificate in this file
        #[arg(long)]
        certificate: Option<PathBuf>,
    },
}

/// Reads the process's arguments and does what they say. Wrong arguments end the process with exit code 2.
#[must_use]
pub fn main(now: SystemTime) -> ExitCode {
    run(Cli::parse(), now).tell()
}

fn run(cli: Cli, now: SystemTime) -> Outcome {
    match cli.command {
        Command::CheckConfig { path, output } => check_config::check_config(&path, output),
        Command::Pki(Pki::Init { dir, config, renew }) => pki::init(&dir, config.as_deref(), renew, now),
        Command::Pki(Pki::Client { dir, user, renew }) => pki::client(&dir, &user, renew, now),
        Command::Pki(Pki::Revoke { dir, user, certificate }) => {
            let what = match (user, certificate) {
                (Some(user), _) => pki::Revoke::User(user),
                (None, certificate) => pki::Revoke::Certificate(certificate.unwrap_or_default()),
            };
            pki::revoke(&dir, &what, now)
        }
        Command::HashPassword => hash_password(),
        Command::Explain { what, from: Some(from), line, node, .. } => match node.configuration_to_ask(false)
        {
            Some(config) => explain::explain_number(config, &what, &from, line.as_deref(), node.output),
            None => socket::explain_number(what, from, line, &node),
        },
        Command::Explain { what, user, plain, node, .. } => {
            let user = user.unwrap_or_default();
            match node.configuration_to_ask(plain) {
                Some(config) => {
                    let transport = if plain { Transport::Plain } else { Transport::Tls };
                    explain::explain(config, &what, &user, transport, node.output)
                }
                None => socket::explain(what, user, &node),
            }
        }
        Command::Run(options) => run::run(options),
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Ask(question) => socket::ask(question),
        Command::Api { config } => api::api(config.as_deref()),
        Command::ConfigSchema => Outcome::good(format!("{:#}", crate::config::json_schema())),
    }
}

fn hash_password() -> Outcome {
    let mut salt = [0; 16];
    if SysRng.try_fill_bytes(&mut salt).is_err() {
        return Outcome::failed("the system gives no random numbers");
    }
    let stdin = std::io::stdin();
    if stdin.is_terminal() { password::hash_prompted(salt) } else { password::hash_line(stdin.lock(), salt) }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for line in [
            "",
            "fly",
            "check-config",
            "check-config a b",
            "pki",
            "pki client d",
            "pki revoke d",
            "explain RP_MAIN",
            "explain 9 --user u --from RP_MAIN",
            "explain RP_MAIN --user u --line 5000",
        ] {
            let words = std::iter::once("ctimanager").chain(line.split_whitespace());
            let error = Cli::try_parse_from(words).expect_err("it is wrong");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
