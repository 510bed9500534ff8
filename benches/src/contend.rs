//! One process that takes a lock over and over, by one of the ways to compare.

use crate::{
    etcd::Recipe,
    host::{Configuration, Functions, Guest, Host},
    permits::Pool,
    steps::Step,
    strict::strict,
    turns::{self, Turn, now, pass},
};
use anyhow::{Context, Result, bail, ensure};
use cap_std::{ambient_authority, fs::Dir};
use clap::{Args, Subcommand};
use clasp_engine::{
    Grant, Limits, LockManager, Mode,
    file::{Family, FileSpace, Order},
    testing::native,
};
use clasp_etcd::{Address, Cluster, Options};
use std::{
    fs::File,
    io::{stdin, stdout},
    path::{Path, PathBuf},
    str::FromStr,
    sync::mpsc,
    thread,
};

/// A way to lock a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The system calls and nothing else.
    Native(Family),
    /// The blocking system call on a helper thread, which wakes this one.
    NativeWake(Family),
    /// `std::fs::File::lock`.
    Std,
    /// The crate fd-lock.
    FdLock,
    /// The engine, without wasm.
    Engine(Family, Rule),
    /// A semaphore of the engine: how many permits it has, and how many are taken.
    Permits(u8, u8),
    /// The same of a pool of files.
    Pool(u8, u8),
    /// The engine with locks on etcd.
    Etcd,
    /// What etcd's own client library does.
    EtcdRecipe,
    /// A guest in a host with blocking functions.
    Sync(Family, Rule, Configuration),
    /// A guest in a host with suspending functions.
    Async(Family, Rule, Configuration),
    /// A task of a guest of WASI 0.3.
    Tasks(Family, Rule),
}

/// In which order processes get a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Of(Order),
    /// Tickets without a tenure.
    Strict,
}

impl FromStr for Rule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Rule> {
        Ok(match text {
            "strict" => Rule::Strict,
            order => Rule::Of(order.parse().map_err(anyhow::Error::msg)?),
        })
    }
}

/// The locks of a directory.
fn grant(directory: &Path, family: Family, rule: Rule) -> Result<Grant> {
    let dir = Dir::open_ambient_dir(directory, ambient_authority())?;
    let space = FileSpace::new(dir).family(family);
    Ok(Grant::new(match rule {
        Rule::Of(order) => space.order(order).into_space(),
        Rule::Strict => strict(space.order(Order::Fair).into_space()),
    }))
}

/// Where locks on etcd are; it comes as a path, as a directory does.
fn address(path: &Path) -> Result<Address> {
    let text = path.to_str().context("an address in UTF-8")?;
    text.parse().map_err(anyhow::Error::msg)
}

impl FromStr for Way {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Way> {
        let words: Vec<&str> = text.split('-').collect();
        let family = |word: &str| word.parse::<Family>().map_err(anyhow::Error::msg);
        let plain = Configuration::Default;
        Ok(match words[..] {
            ["native", f] => Way::Native(family(f)?),
            ["native", f, "wake"] => Way::NativeWake(family(f)?),
            ["std"] => Way::Std,
            ["fdlock"] => Way::FdLock,
            ["permits", of, count] => Way::Permits(of.parse()?, count.parse()?),
            ["pool", of, count] => Way::Pool(of.parse()?, count.parse()?),
            ["etcd"] => Way::Etcd,
            ["etcd", "recipe"] => Way::EtcdRecipe,
            ["engine", f, o] => Way::Engine(family(f)?, o.parse()?),
            ["sync", f, o] => Way::Sync(family(f)?, o.parse()?, plain),
            ["async", f, o] => Way::Async(family(f)?, o.parse()?, plain),
            ["tasks", f, o] => Way::Tasks(family(f)?, o.parse()?),
            ["sync", f, o, "plain"] => {
                Way::Sync(family(f)?, o.parse()?, Configuration::NoConcurrency)
            }
            ["async", f, o, "plain"] => {
                Way::Async(family(f)?, o.parse()?, Configuration::NoConcurrency)
            }
            _ => bail!("unknown way to lock: {text}"),
        })
    }
}

#[derive(Args)]
pub(crate) struct Contend {
    way: Way,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Prints how many nanoseconds so many pairs take
    Pairs {
        lock: PathBuf,
        mode: String,
        count: u32,
        /// What is done between them
        #[arg(long, value_enum, default_value = "nothing")]
        step: Step,
    },
    /// Prints `ready`, reads until when, competes, and writes its turns
    Compete {
        lock: PathBuf,
        mode: String,
        hold: u64,
        pause: u64,
    },
}

impl Contend {
    pub(crate) fn run(self) -> Result<()> {
        match self.task {
            Task::Pairs {
                lock,
                mode,
                count,
                step,
            } => {
                let mut contender = Contender::new(self.way, &lock, mode == "exclusive")?;
                // Once for what is set up on first use.
                contender.pairs(step, count.min(100))?;
                println!("{}", contender.pairs(step, count)?);
            }
            Task::Compete {
                lock,
                mode,
                hold,
                pause,
            } => {
                let mut contender = Contender::new(self.way, &lock, mode == "exclusive")?;
                println!("ready");
                let mut line = String::new();
                stdin().read_line(&mut line)?;
                let until = line.trim().parse().context("when to stop")?;
                turns::write(&contender.compete((hold, pause), until)?, stdout())?;
            }
        }
        Ok(())
    }
}

type Held<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Something that can be locked, one turn after the other.
enum Contender {
    Plain {
        way: Way,
        file: File,
        mode: Mode,
        helper: Option<Helper>,
    },
    FdLock(fd_lock::RwLock<File>, Mode),
    Engine(
        clasp_engine::Lock,
        Mode,
        #[expect(dead_code, reason = "closes its locks")] clasp_engine::Owner,
    ),
    Permits(
        clasp_engine::Semaphore,
        u8,
        #[expect(dead_code, reason = "closes its semaphores")] clasp_engine::Owner,
    ),
    Pool(Pool),
    Recipe(Box<Recipe>),
    Guest(Box<Guest>, String, bool, tokio::runtime::Runtime),
}

/// A thread that waits for the lock, and wakes who asked.
struct Helper {
    ask: mpsc::Sender<()>,
    got: mpsc::Receiver<std::io::Result<()>>,
}

impl Contender {
    fn new(way: Way, path: &Path, exclusive: bool) -> Result<Contender> {
        let mode = if exclusive {
            Mode::Exclusive
        } else {
            Mode::Shared
        };
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
        };
        let directory = path.parent().context("a path in a directory")?;
        let name = path.file_name().context("a name")?;
        let name = name.to_str().context("a name in UTF-8")?.to_owned();
        let guest = |functions, family, rule, configuration| -> Result<Contender> {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .build()?;
            let host = Host::new(functions, configuration)?;
            let grant = grant(directory, family, rule)?;
            let guest = runtime.block_on(host.guest(LockManager::global(), grant))?;
            Ok(Contender::Guest(
                Box::new(guest),
                name.clone(),
                exclusive,
                runtime,
            ))
        };
        Ok(match way {
            Way::Native(_) | Way::Std => Contender::Plain {
                way,
                file: open()?,
                mode,
                helper: None,
            },
            Way::NativeWake(family) => {
                let file = open()?;
                let own = file.try_clone()?;
                let (ask, asked) = mpsc::channel();
                let (tell, got) = mpsc::channel();
                thread::spawn(move || {
                    while asked.recv().is_ok() {
                        if tell.send(native::lock(&own, family, mode)).is_err() {
                            break;
                        }
                    }
                });
                Contender::Plain {
                    way,
                    file,
                    mode,
                    helper: Some(Helper { ask, got }),
                }
            }
            Way::FdLock => Contender::FdLock(fd_lock::RwLock::new(open()?), mode),
            Way::Engine(family, rule) => {
                let owner = LockManager::global().owner(Limits::default());
                let lock = owner.open(&grant(directory, family, rule)?, &name)?;
                Contender::Engine(lock, mode, owner)
            }
            Way::Permits(of, count) => {
                let owner = LockManager::global().owner(Limits::default());
                let grant = grant(directory, Family::Posix, Rule::Of(Order::Fair))?;
                let semaphore = owner.open_semaphore(&grant, &name, of)?;
                Contender::Permits(semaphore, count, owner)
            }
            Way::Pool(of, count) => Contender::Pool(Pool::new(path, of, count)?),
            Way::Etcd => {
                let cluster = Cluster::connect(&address(directory)?, &Options::default())?;
                let owner = LockManager::global().owner(Limits::default());
                let lock = owner.open(&Grant::new(cluster.space()), &name)?;
                Contender::Engine(lock, mode, owner)
            }
            Way::EtcdRecipe => Contender::Recipe(Box::new(Recipe::new(&address(path)?)?)),
            Way::Sync(family, rule, configuration) => {
                guest(Functions::Blocking, family, rule, configuration)?
            }
            Way::Async(family, rule, configuration) => {
                guest(Functions::Suspending, family, rule, configuration)?
            }
            Way::Tasks(family, rule) => {
                guest(Functions::Concurrent, family, rule, Configuration::Default)?
            }
        })
    }

    /// Takes the lock; what is answered releases it.
    fn acquire(&mut self) -> Result<Held<'_>> {
        Ok(match self {
            Contender::Plain {
                way: Way::Std,
                file,
                mode,
                ..
            } => {
                match mode {
                    Mode::Exclusive => file.lock()?,
                    Mode::Shared => file.lock_shared()?,
                }
                Box::new(|| Ok(file.unlock()?))
            }
            Contender::Plain {
                way: Way::Native(family) | Way::NativeWake(family),
                file,
                mode,
                helper,
            } => {
                match helper {
                    None => native::lock(file, *family, *mode)?,
                    Some(helper) => {
                        if !native::try_lock(file, *family, *mode)? {
                            helper.ask.send(())?;
                            helper.got.recv()??;
                        }
                    }
                }
                // As the engine does: the lock file may have been removed.
                ensure!(rustix::fs::fstat(&*file)?.st_nlink > 0);
                Box::new(|| Ok(native::unlock(file, *family)?))
            }
            Contender::FdLock(lock, Mode::Exclusive) => {
                let guard = lock.write()?;
                Box::new(move || {
                    drop(guard);
                    Ok(())
                })
            }
            Contender::FdLock(lock, Mode::Shared) => {
                let guard = lock.read()?;
                Box::new(move || {
                    drop(guard);
                    Ok(())
                })
            }
            Contender::Engine(lock, mode, _) => {
                let guard = lock.acquire_blocking(*mode, None)?;
                Box::new(move || {
                    drop(guard);
                    Ok(())
                })
            }
            Contender::Permits(semaphore, count, _) => {
                let permit = semaphore.acquire_blocking(*count, None)?;
                Box::new(move || {
                    drop(permit);
                    Ok(())
                })
            }
            Contender::Pool(pool) => {
                pool.acquire()?;
                Box::new(|| pool.release())
            }
            Contender::Recipe(recipe) => {
                recipe.acquire()?;
                Box::new(|| recipe.release())
            }
            Contender::Plain { .. } | Contender::Guest(..) => bail!("not one at a time"),
        })
    }

    /// Nanoseconds that so many pairs take, with a step between them.
    fn pairs(&mut self, step: Step, count: u32) -> Result<u64> {
        if let Contender::Guest(guest, name, exclusive, runtime) = self {
            return runtime.block_on(guest.pairs(name, *exclusive, step, count));
        }
        let begun = now();
        if step == Step::Nothing {
            for _ in 0..count {
                self.acquire()?()?;
            }
        } else {
            for _ in 0..count {
                self.with_step(step)?;
            }
        }
        Ok(now() - begun)
    }

    fn with_step(&mut self, step: Step) -> Result<()> {
        match self {
            Contender::Plain {
                way: Way::Native(family),
                file,
                mode,
                ..
            } => {
                native::lock(file, *family, *mode)?;
                ensure!(rustix::fs::fstat(&*file)?.st_nlink > 0);
                step.natively(file, *family)?;
                native::unlock(file, *family)?;
            }
            Contender::Engine(lock, mode, _) => {
                step.with(&mut lock.acquire_blocking(*mode, None)?)?;
            }
            _ => bail!("this way has no steps"),
        }
        Ok(())
    }

    fn compete(&mut self, (hold, pause): (u64, u64), until: u64) -> Result<Vec<Turn>> {
        if let Contender::Guest(guest, name, exclusive, runtime) = self {
            return runtime.block_on(guest.compete(name, *exclusive, (hold, pause), until));
        }
        let mut turns = Vec::new();
        let mut asked = now();
        while asked < until {
            let release = self.acquire()?;
            let got = now();
            let left = pass(got, hold);
            release()?;
            turns.push(Turn { asked, got, left });
            asked = pass(now(), pause);
        }
        Ok(turns)
    }
}
