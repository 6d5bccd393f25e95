//! Several hosts on one machine: network namespaces on a bridge, whose links can be cut, made slow and lossy.
//!
//! Everything lies in namespaces of its own, the bridge too; the machine's own network is neither used nor changed.
//! Needs the rights to make them (root) and iproute2.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What the namespaces' names begin with; the process id of the test follows.
const PREFIX: &str = "snapfleet-";
/// Where iproute2 keeps them.
const NAMESPACES: &str = "/run/netns";
/// The namespace with the bridge.
const SWITCH: &str = "switch";
/// For a kernel without netem.
const WIRE: &str = include_str!("hosts/wire.py");

/// How many sets of hosts this process has made.
static SETS: AtomicUsize = AtomicUsize::new(0);

/// Hosts with a network between them; gone, with what still runs on them, when dropped.
pub struct Hosts {
    prefix: String,
    names: Vec<&'static str>,
    /// The slow wires, beside the hosts' names.
    wires: Vec<Option<Child>>,
}

impl Hosts {
    /// Makes hosts with these names, of at most ten letters each, and addresses from 10.77.0.1 on.
    ///
    /// # Errors
    /// Why it cannot be done here.
    pub fn new(names: &[&'static str]) -> Result<Self, String> {
        remove_leftovers();
        let set = SETS.fetch_add(1, Ordering::SeqCst);
        let prefix = format!("{PREFIX}{}-{set}-", std::process::id());
        let wires = names.iter().map(|_| None).collect();
        let hosts = Self { prefix, names: names.to_vec(), wires };
        hosts.make_switch()?;
        for name in names {
            hosts.make_host(name)?;
        }
        Ok(hosts)
    }

    /// A host's address.
    ///
    /// # Panics
    /// If there is no such host.
    #[must_use]
    pub fn address(&self, host: &str) -> String {
        format!("10.77.0.{}", self.index(host) + 1)
    }

    /// A program to be run on a host. The process is the program itself, so it takes signals.
    #[must_use]
    pub fn command(&self, host: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).arg(program);
        command
    }

    /// Runs a function on a host: what it connects to, it sees from there.
    ///
    /// # Panics
    /// If the host is gone, or the function panics.
    pub fn on<T: Send>(&self, host: &str, run: impl FnOnce() -> T + Send) -> T {
        let path = Path::new(NAMESPACES).join(self.namespace(host));
        let namespace = File::open(path).expect("the host's namespace");
        let entered = || {
            // Of this thread alone, which ends with the function.
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the namespace is entered");
            run()
        };
        std::thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|panic| {
            std::panic::resume_unwind(panic);
        })
    }

    /// Cuts a host off; packets are lost, and nobody is told.
    ///
    /// # Panics
    /// If `ip` fails.
    pub fn cut(&self, host: &str) {
        self.set_port(host, "down");
    }

    /// Ends [`Hosts::cut`] and [`Hosts::impair`].
    ///
    /// # Panics
    /// If `ip` fails.
    pub fn heal(&mut self, host: &str) {
        self.restore(host);
        self.set_port(host, "up");
    }

    /// Makes a host's link slow and lossy, each way: packets arrive `delay_ms` ± `jitter_ms` later, and some
    /// of them never. By the kernel's netem, or by a wire of our own where the kernel has none.
    ///
    /// # Errors
    /// Why it cannot be done here.
    ///
    /// # Panics
    /// If `ip` fails.
    pub fn impair(
        &mut self,
        host: &str,
        delay_ms: u32,
        jitter_ms: u32,
        loss_percent: f64,
    ) -> Result<(), String> {
        self.restore(host);
        let (delay, jitter) = (format!("{delay_ms}ms"), format!("{jitter_ms}ms"));
        let loss = format!("{loss_percent}%");
        for (namespace, device) in self.ends(host) {
            let netem = ["-n", &namespace, "qdisc", "replace", "dev", device, "root", "netem"];
            let how = ["delay", &delay, &jitter, "loss", &loss];
            if run("tc", &[&netem[..], &how[..]].concat()).is_err() {
                self.restore(host);
                return self.put_wire(host, [delay_ms.into(), jitter_ms.into(), loss_percent]);
            }
        }
        Ok(())
    }

    /// Takes the host's port out of the bridge and puts a wire between the two.
    fn put_wire(&mut self, host: &str, how: [f64; 3]) -> Result<(), String> {
        let (inner, outer) = (format!("{host}-in"), format!("{host}-out"));
        self.switch(&["link", "add", &inner, "type", "veth", "peer", "name", &outer])?;
        self.switch(&["link", "set", "dev", &outer, "master", "bridge", "up"])?;
        self.switch(&["link", "set", "dev", &inner, "up"])?;
        self.switch(&["link", "set", "dev", host, "nomaster"])?;
        let mut command = self.command(SWITCH, "python3");
        command.args(["-c", WIRE, host, &inner]).args(how.map(|value| value.to_string()));
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut wire = spawned.map_err(|error| format!("python3: {error}"))?;
        let mut said = String::new();
        if let Some(output) = wire.stdout.take() {
            let _ = BufReader::new(output).read_line(&mut said);
        }
        let index = self.index(host);
        self.wires[index] = Some(wire);
        if said.trim() == "ready" {
            Ok(())
        } else {
            Err("the kernel has no netem, nor packet sockets".into())
        }
    }

    fn restore(&mut self, host: &str) {
        for (namespace, device) in self.ends(host) {
            // There is none as a rule.
            let _ = run("tc", &["-n", &namespace, "qdisc", "del", "dev", device, "root"]);
        }
        let index = self.index(host);
        if let Some(mut wire) = self.wires[index].take() {
            let _ = wire.kill();
            let _ = wire.wait();
            let healed = self
                .switch(&["link", "set", "dev", host, "master", "bridge"])
                .and_then(|()| self.switch(&["link", "del", "dev", &format!("{host}-in")]));
            healed.expect("the port is in the bridge again");
        }
    }

    /// Both ends of a host's link: the bridge's port, and the host's device.
    fn ends<'a>(&self, host: &'a str) -> [(String, &'a str); 2] {
        [(self.namespace(SWITCH), host), (self.namespace(host), "eth0")]
    }

    fn set_port(&self, host: &str, state: &str) {
        self.switch(&["link", "set", "dev", host, state]).expect("a port of the bridge");
    }

    fn make_switch(&self) -> Result<(), String> {
        run("ip", &["netns", "add", &self.namespace(SWITCH)])?;
        self.switch(&["link", "add", "bridge", "type", "bridge"])?;
        self.switch(&["link", "set", "dev", "bridge", "up"])
    }

    fn make_host(&self, name: &str) -> Result<(), String> {
        let (namespace, switch) = (self.namespace(name), self.namespace(SWITCH));
        let address = format!("{}/24", self.address(name));
        run("ip", &["netns", "add", &namespace])?;
        let link = ["link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", &switch];
        run("ip", &[&["-n", &namespace][..], &link[..]].concat())?;
        self.switch(&["link", "set", "dev", name, "master", "bridge", "up"])?;
        run("ip", &["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", &namespace, "link", "set", "dev", "eth0", "up"])?;
        run("ip", &["-n", &namespace, "link", "set", "dev", "lo", "up"])
    }

    fn switch(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", &[&["-n", &self.namespace(SWITCH)], arguments].concat())
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    fn index(&self, host: &str) -> usize {
        self.names.iter().position(|name| *name == host).expect("one of the hosts")
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for wire in self.wires.iter_mut().flatten() {
            let _ = wire.kill();
            let _ = wire.wait();
        }
        for host in self.names.iter().copied().chain([SWITCH]) {
            remove(&self.namespace(host));
        }
    }
}

/// Removes what tests left that were killed: namespaces named after a process that is gone.
fn remove_leftovers() {
    for entry in std::fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if maker.is_some_and(|id| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists()) {
            remove(&name);
        }
    }
}

/// Removes a namespace and what still runs in it.
fn remove(namespace: &str) {
    let listed = Command::new("ip").args(["netns", "pids", namespace]).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    for id in String::from_utf8_lossy(&listed).split_whitespace() {
        let _ = run("kill", &["-KILL", id]);
    }
    let _ = run("ip", &["netns", "del", namespace]);
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program} (of iproute2): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()))
}
