//! clasp beside bare system calls and the libraries people use, in one run.
//!
//! Absolute times say little on a machine that does other things as well;
//! the ratios of one run do. `cargo xtask bench` builds everything, sets the
//! peers up and starts this.

mod contend;
mod etcd;
mod existing;
mod host;
mod hung;
mod inhost;
mod machine;

mod permits;
mod processes;
mod report;
mod results;
mod scenarios;
mod statistics;
mod steps;
mod strict;
mod turns;
mod waits;
mod wakeup;
mod written_by_hand;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "clasp beside bare system calls and the libraries people use")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every comparison and write the report
    Run {
        /// Directory for the report
        #[arg(long)]
        out: PathBuf,
        /// Python with the peers
        #[arg(long)]
        python: Option<PathBuf>,
        /// The command `clasp` and a guest for it, for its starting time
        #[arg(long, num_args = 2, value_names = ["CLASP", "GUEST"])]
        start: Option<Vec<PathBuf>>,
        /// A program in C that calls fcntl, as a guest and natively
        #[arg(long, num_args = 2, value_names = ["GUEST", "NATIVE"], requires = "start")]
        existing: Option<Vec<PathBuf>>,
        /// Much shorter runs, to see that everything works
        #[arg(long)]
        quick: bool,
        /// Another version of this program, for the uncontended pair side by side
        #[arg(long)]
        against: Option<PathBuf>,
        /// Only comparisons whose name contains this
        #[arg(long)]
        only: Option<String>,
    },
    /// Compare locks on etcd and on other servers, and write a report of their own
    Etcd {
        /// Directory for the report
        #[arg(long)]
        out: PathBuf,
        /// Python with the clients of the other servers
        #[arg(long)]
        python: Option<PathBuf>,
        /// The command `clasp`, built with its feature `etcd`
        #[arg(long)]
        clasp: Option<PathBuf>,
        /// Much shorter runs, to see that everything works
        #[arg(long)]
        quick: bool,
    },
    /// Compare semaphores, and write a report of their own
    Permits {
        /// Directory for the report
        #[arg(long)]
        out: PathBuf,
        /// Python with portalocker
        #[arg(long)]
        python: Option<PathBuf>,
        /// Much shorter runs, to see that everything works
        #[arg(long)]
        quick: bool,
    },
    /// One process of a comparison
    #[command(hide = true)]
    Contend(contend::Contend),
    /// The other end of a wake-up: answers each byte with one
    #[command(hide = true)]
    Echo,
    /// One process in which a lock hangs
    #[command(hide = true)]
    Hung(hung::Hung),
    /// Many requests of one guest
    #[command(hide = true)]
    Waits(waits::Waits),
    /// Many guests or tasks in one process
    #[command(hide = true)]
    Inhost(inhost::Inhost),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run {
            out,
            python,
            start,
            existing,
            quick,
            against,
            only,
        } => scenarios::run(&scenarios::Settings {
            out,
            python,
            start,
            existing,
            quick,
            against,
            only,
        }),
        Command::Etcd {
            out,
            python,
            clasp,
            quick,
        } => etcd::run(&etcd::Settings {
            out,
            python,
            clasp,
            quick,
        }),
        Command::Permits { out, python, quick } => {
            permits::run(&permits::Settings { out, python, quick })
        }
        Command::Contend(contend) => contend.run(),
        Command::Echo => wakeup::echo(),
        Command::Hung(hung) => hung.run(),
        Command::Inhost(inhost) => inhost.run(),
        Command::Waits(waits) => waits.run(),
    }
}
