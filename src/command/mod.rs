//! The commands. Each takes its arguments and ends in an exit code.

pub mod ask;
pub mod call;
pub mod check_config;
pub mod doctor;
pub mod drain;
pub mod healthcheck;
pub mod keygen;
pub mod policy;
pub mod revoke;
pub mod serve;
pub mod sessions;

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
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A paragraph is one line, which clap wraps at the terminal's width.
const ABOUT: &str = "\
WeChat login for anything behind a gateway, without changing the application.

wechat-authz sits beside Envoy, answers its ext_authz checks from memory, runs WeChat's login for those it does not \
know, and hands the application verified identity headers (x-wechat-subject, -openid, -unionid, -appid, -flow, \
-session, -nickname, -avatar).

First steps:

  wechat-authz keygen keys/                      make a signing key
  wechat-authz check-config wechat-authz.yaml    see everything that is wrong
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
  SIGTERM, SIGINT  stop taking connections, finish what is under way, exit
  SIGHUP           look at the configuration, the secrets and the keys now

Exit codes:
   0  ended as asked
   1  failed while running: a listener could not be opened, nobody answers
   2  the command line is wrong
  74  the answer could not be printed
  78  the configuration, a secret or a key is wrong; every fault is named";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer the gateway's checks and show the login's pages.
    ///
    /// Logs are JSON lines on standard output. Changes of the configuration, the secrets and the keys are picked up
    /// without a restart (all but where it listens, the state directory and Redis); a bad change is refused with one log line
    /// and the old one stays.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say everything that is wrong with a configuration, or show what it amounts to, every secret masked.
    ///
    /// Starts nothing and calls nobody. Reads the secrets and keys that the file names, to see that they are usable.
    CheckConfig {
        /// The configuration file.
        #[arg(value_name = "FILE", required_unless_present = "print_schema")]
        file: Option<PathBuf>,
        /// Print the JSON schema of the file instead, for editors.
        #[arg(long)]
        print_schema: bool,
    },
    /// Make a new signing key in a directory, as <UTC time>.pem.
    ///
    /// Run it again to rotate: the new key verifies at once and signs after keys.sign_after, so nobody is logged out.
    /// Remove an old key's file when its tokens are dead (after the longest session lifetime), or at once to end them.
    Keygen {
        /// The directory; made if there is none.
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Show which requests with a valid token envoy/fast.yaml passes without asking.
    ///
    /// Made from the policy: envoy/render --fast --config FILE writes its file from the JSON.
    Policy {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Ask about this path and all below it, or about a pattern such as /users/*/pay, whatever the policy says; may be
        /// given several times.
        #[arg(long, value_name = "PATH")]
        ask: Vec<String>,
        /// Print JSON for a program.
        #[arg(long)]
        json: bool,
    },
    /// End sessions: one, those of a person, or those of an application. At every instance, where there is Redis.
    ///
    /// Asks the admin door of the instance that runs with the same configuration.
    #[command(override_usage = "wechat-authz revoke [OPTIONS] --config <FILE>\n           \
        (--session <ID> | --subject <SUBJECT> | --app <NAME>)")]
    Revoke {
        /// The running instance's configuration file: it says where the door is and what opens it.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[command(flatten)]
        target: revoke::Target,
        /// Print JSON for a program.
        #[arg(long)]
        json: bool,
    },
    /// Who is logged in.
    #[command(subcommand)]
    Sessions(Sessions),
    /// Look at everything a login needs: keys, WeChat, AppIDs and AppSecrets, the clock, Redis, and the live gateway.
    ///
    /// Changes nothing and logs nobody in; asks WeChat one question for each AppID, with a code that never was one. With
    /// --url it goes to the application as a stranger's browser would, and says which statuses, headers and cookies are
    /// lost on the way, each with its cure.
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
    /// Whether the instance beside this lives: exit code 0 or 1, for probes in an image without a shell.
    ///
    /// Asks the ops door, within a second. Reads no configuration, so that a bad change of it ends no instance.
    Healthcheck {
        /// Where the ops door is [default: $WECHAT_AUTHZ__LISTEN__OPS or 127.0.0.1:9102].
        #[arg(long, value_name = "IP:PORT")]
        ops: Option<Address>,
        /// Ask whether it takes requests instead: not yet while it starts, no more while it drains.
        #[arg(long)]
        ready: bool,
    },
    /// Have the Envoy beside this one end politely: not ready any more, and `connection: close` in each answer. Then wait.
    ///
    /// A pod's preStop hook. Envoy's admin port must allow POST /healthcheck/fail and /drain_listeners; without an answer
    /// it is said, the wait is kept, and the exit code is 1.
    Drain {
        /// Envoy's admin port.
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9901")]
        envoy: Address,
        /// How long to wait, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=600))]
        wait: u16,
    },
}

/// About sessions.
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// The sessions of a person: those of every instance, where there is Redis.
    ///
    /// Asks the admin door of the instance that runs with the same configuration. Last seen is told to a few minutes.
    List {
        /// The running instance's configuration file: it says where the door is and what opens it.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The person (x-wechat-subject), such as wx:union:oAbc.
        #[arg(long, value_name = "SUBJECT")]
        subject: String,
        /// Print JSON for a program.
        #[arg(long)]
        json: bool,
    },
}

/// Runs a command to its end.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Serve { config } => serve::run(&config),
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
    fn the_command_line_is_sound() {
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
                if line.starts_with(' ') { line.len() <= 80 } else { line.len() < 60 || !starts_low(next) },
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
    fn starts_low(line: &str) -> bool {
        line.starts_with(|first: char| first.is_lowercase() || first == '-')
    }
}
