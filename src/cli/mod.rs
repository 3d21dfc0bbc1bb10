//! The commands. Each takes its arguments and returns an exit code.

pub(crate) mod admin_client;
pub(crate) mod check_config;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod healthcheck;
pub(crate) mod http;
pub(crate) mod keygen;
pub(crate) mod policy;
pub(crate) mod revoke;
pub(crate) mod sessions;

use crate::server::Address;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use url::Url;

/// WeChat login for anything behind a gateway, without changing the application.
#[derive(Debug, Parser)]
#[command(name = "wechat-authz", version, long_about = ABOUT, after_long_help = EXIT_CODES, max_term_width = 110)]
pub struct Arguments {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// A paragraph is one line, which clap wraps at the terminal's width.
const ABOUT: &str = "\
WeChat login for anything behind a gateway, without changing the application.

wechat-authz runs beside Envoy, answers its ext_authz checks from memory, sends unknown users through WeChat's login, \
and passes verified identity headers to the application (x-wechat-subject, -openid, -unionid, -appid, -flow, -session, \
-nickname, -avatar).

First steps:

  wechat-authz keygen keys/                      create a signing key
  wechat-authz check-config wechat-authz.yaml    report every error
  wechat-authz serve --config wechat-authz.yaml  run it";

const EXIT_CODES: &str = "\
A minimal configuration:
  keys: { directory: keys }
  apps:
  - name: shop
    origin: https://shop.example.com
    official_account: { appid: wx0123456789abcdef, secret_file: ./oa.secret }

Any setting can be overridden by an environment variable, its path in capitals with two underscores between the parts:
  WECHAT_AUTHZ__LISTEN__CHECK=unix:/run/wechat-authz/check.sock
  WECHAT_AUTHZ__APPS__0__ORIGIN=http://127.0.0.1:8080
Secrets come from files (secret_file, token_file), never from the command line or the environment.

Signals:
  SIGTERM, SIGINT  stop accepting connections, finish open requests, exit
  SIGHUP           reload the configuration, the secrets and the keys now

Exit codes:
   0  success
   1  the command failed; for example, a listener does not open or answer
   2  the command line is wrong
  74  the output could not be printed
  78  the configuration, a secret or a key is wrong; every error is named";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer the gateway's checks and serve the login pages.
    ///
    /// Logs are JSON lines on standard output. Changes of the configuration, the secrets and the keys are loaded without a
    /// restart, except the listeners, the state directory and Redis. An invalid change is rejected with one log line, and
    /// the old configuration stays.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Report every error in a configuration, or print the effective configuration with all secrets masked.
    ///
    /// Starts nothing and makes no network calls. Reads the secrets and keys that the file names, to check that they are
    /// usable.
    CheckConfig {
        /// The configuration file.
        #[arg(value_name = "FILE", required_unless_present = "print_schema")]
        file: Option<PathBuf>,
        /// Print the JSON schema of the file instead, for editors.
        #[arg(long)]
        print_schema: bool,
    },
    /// Create a new signing key in a directory, as <UTC time>.pem.
    ///
    /// Run it again to rotate: the new key verifies at once and signs after keys.sign_after, so nobody is logged out.
    /// Remove an old key's file when its sessions have ended (after the longest session lifetime), or at once to end them.
    Keygen {
        /// The directory; created if absent.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print which requests with a valid token envoy/fast.yaml passes without a check.
    ///
    /// The rules come from the policy. envoy/render --fast --config FILE generates its file from the JSON output.
    Policy {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Always check this path and all below it, or a pattern such as /users/*/pay, whatever the policy says; may be
        /// repeated.
        #[arg(long, value_name = "PATH")]
        ask: Vec<String>,
        /// Print JSON for a program.
        #[arg(long)]
        json: bool,
    },
    /// End one session, those of a user, or those of an application; with Redis at every instance.
    ///
    /// Calls the admin listener of the instance that runs with the same configuration.
    #[command(override_usage = "wechat-authz revoke [OPTIONS] --config <FILE>\n           \
        (--session <ID> | --subject <SUBJECT> | --app <NAME>)")]
    Revoke {
        /// The running instance's configuration file, which holds the listener's address and token file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        target: revoke::Target,
        /// Print JSON for a program.
        #[arg(long)]
        json: bool,
    },
    /// List sessions.
    #[command(subcommand)]
    Sessions(Sessions),
    /// Examine everything that a login needs: keys, WeChat, AppIDs and AppSecrets, the clock, Redis, and the live gateway.
    ///
    /// Changes nothing and logs nobody in. Sends WeChat one request for each AppID, with an invalid code, and one for the
    /// account's own token if jssdk or require_subscription is on. With --url it calls the application as an unknown
    /// browser, and with probes sealed by the signing keys, and reports the statuses, headers and cookies that the gateway
    /// loses and the checks that it skips, each with its remedy.
    Doctor {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// An address of an application that requires a login, such as https://shop.example.com/.
        #[arg(long, value_name = "URL")]
        url: Option<Url>,
        /// Print JSON for a program.
        #[arg(long)]
        json: bool,
    },
    /// Report by exit code 0 or 1 whether the local instance is alive, for probes in an image without a shell.
    ///
    /// Calls the ops listener, within a second. Reads no configuration, so that an invalid change ends no instance.
    Healthcheck {
        /// The ops listener's address [default: $WECHAT_AUTHZ__LISTEN__OPS or 127.0.0.1:9102].
        #[arg(long, value_name = "IP:PORT")]
        ops: Option<Address>,
        /// Report whether it accepts requests instead: not while it starts or drains.
        #[arg(long)]
        ready: bool,
    },
    /// Drain the local Envoy: make it not ready, with `connection: close` in each answer. Then wait.
    ///
    /// A pod's preStop hook. Envoy's admin port must allow POST /healthcheck/fail and /drain_listeners. If Envoy does not
    /// answer, the command says so, waits all the same, and exits with code 1.
    Drain {
        /// Envoy's admin port.
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9901")]
        envoy: Address,
        /// How long to wait, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=600))]
        wait: u16,
    },
}

/// The commands about sessions.
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// List the sessions of a user; with Redis those of every instance.
    ///
    /// Calls the admin listener of the instance that runs with the same configuration. The time of last use is accurate to
    /// a few minutes.
    List {
        /// The running instance's configuration file, which holds the listener's address and token file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The user (x-wechat-subject), such as wx:union:oAbc.
        #[arg(long, value_name = "SUBJECT")]
        subject: String,
        /// Print JSON for a program.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a command.
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Serve { config } => crate::app::run(&config),
        Command::CheckConfig { file, print_schema } => check_config::run(&file.unwrap_or_default(), print_schema),
        Command::Keygen { directory } => keygen::run(&directory),
        Command::Policy { config, ask, json } => policy::run(&config, &ask, json),
        Command::Revoke { config, target, json } => revoke::run(&config, &target, json),
        Command::Doctor { config, url, json } => doctor::run(&config, url.as_ref(), json),
        Command::Healthcheck { ops, ready } => healthcheck::run(ops, ready),
        Command::Drain { envoy, wait } => drain::run(&envoy, Duration::from_secs(wait.into())),
        Command::Sessions(Sessions::List { config, subject, json }) => sessions::run(&config, &subject, json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_secret_can_be_given_on_the_command_line() {
        let help = Arguments::command().render_long_help().to_string();
        for command in Arguments::command().get_subcommands() {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                assert!(!name.contains("secret") && !name.contains("token") && !name.contains("password"), "{name}");
            }
        }
        assert!(help.contains("Exit codes"), "{help}");
    }

    #[test]
    fn the_help_is_readable_at_eighty_columns() {
        // A line that starts with a blank is set by hand and must fit; a paragraph is one line, which clap wraps.
        for (line, next) in [ABOUT, EXIT_CODES].iter().flat_map(|text| text.lines().zip(text.lines().skip(1))) {
            assert!(
                if line.starts_with(' ') { line.len() <= 80 } else { line.len() < 60 || !continues(next) },
                "{line}"
            );
        }
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            let help = command.clone().term_width(80).render_long_help().to_string();
            assert!(help.lines().all(|line| line.len() <= 80), "{help}");
            commands.extend(command.get_subcommands().cloned());
        }
    }

    /// Whether a line goes on with the sentence of the line before.
    fn continues(line: &str) -> bool {
        line.starts_with(|first: char| first.is_lowercase() || first == '-')
    }
}
