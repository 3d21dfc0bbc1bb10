//! Redis as in production: a master with a replica and three Sentinels, and a Cluster of six nodes.

use harness::free_port;
use harness::process::Process;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A Redis process.
pub struct Node {
    pub port: u16,
    process: Option<Process>,
}

impl Node {
    fn start(program: &str, arguments: &[String], port: u16) -> Self {
        let process = Process::start(Command::new(program).args(arguments).stdout(Stdio::null()));
        Self { port, process: Some(process) }
    }

    pub fn kill(&mut self) {
        self.process = None;
    }
}

/// The output of `redis-cli`.
pub fn cli(port: u16, words: &[&str]) -> String {
    let said = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output().unwrap();
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

async fn until(what: &str, within: Duration, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < within, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn server(directory: &std::path::Path, port: u16, more: &[&str]) -> Node {
    let place = directory.join(port.to_string());
    std::fs::create_dir_all(&place).unwrap();
    let mut arguments: Vec<String> =
        ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend(["--dir".to_owned(), place.display().to_string(), "--logfile".to_owned(), "log".to_owned()]);
    arguments.extend(more.iter().map(|&word| word.to_owned()));
    Node::start("redis-server", &arguments, port)
}

/// A master, its replica, and three Sentinels that monitor them.
pub struct Sentinels {
    pub nodes: Vec<Node>,
    sentinels: Vec<Node>,
    _directory: tempfile::TempDir,
}

impl Sentinels {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (master, replica) = (free_port(), free_port());
        let of = format!("127.0.0.1 {master}");
        let nodes = vec![
            server(directory.path(), master, &["--repl-diskless-sync-delay", "0"]),
            server(directory.path(), replica, &["--replicaof", &of, "--repl-diskless-sync-delay", "0"]),
        ];
        until("the replica", Duration::from_secs(20), || cli(replica, &["ROLE"]).contains("connected")).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let port = free_port();
            let file = directory.path().join(format!("sentinel-{port}.conf"));
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nlogfile sentinel-{port}.log\nsentinel monitor it 127.0.0.1 {master} 2\n\
                 sentinel down-after-milliseconds it 1000\nsentinel failover-timeout it 5000\n",
                directory.path().display()
            );
            std::fs::write(&file, text).unwrap();
            sentinels.push(Node::start("redis-sentinel", &[file.display().to_string()], port));
        }
        let all = Self { nodes, sentinels, _directory: directory };
        for sentinel in &all.sentinels {
            let knows = || cli(sentinel.port, &["SENTINEL", "CKQUORUM", "it"]).starts_with("OK 3");
            until("the Sentinels' quorum", Duration::from_secs(20), knows).await;
            let replica = || !cli(sentinel.port, &["SENTINEL", "REPLICAS", "it"]).is_empty();
            until("the Sentinels' replica", Duration::from_secs(20), replica).await;
        }
        all
    }

    pub fn configuration(&self) -> String {
        let addresses: Vec<String> = self.sentinels.iter().map(|node| format!("\"127.0.0.1:{}\"", node.port)).collect();
        format!("redis:\n  reconcile: 2s\n  sentinel: {{ master: it, addresses: [{}] }}\n", addresses.join(", "))
    }

    /// The index of the master among the nodes, according to a Sentinel.
    pub fn master(&self) -> usize {
        let said = cli(self.sentinels[0].port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "it"]);
        let port = said.lines().last().unwrap_or_default().parse().unwrap_or(0);
        self.nodes.iter().position(|node| node.port == port).unwrap_or(usize::MAX)
    }

    /// Makes the Sentinels fail over although the master is healthy.
    pub fn fail_over(&self) {
        cli(self.sentinels[0].port, &["SENTINEL", "FAILOVER", "it"]);
    }

    pub async fn until_replica(&self, former: usize) {
        let demoted = || cli(self.nodes[former].port, &["ROLE"]).starts_with("slave");
        until("the former master's demotion", Duration::from_secs(30), demoted).await;
    }

    pub async fn until_master_is_not(&self, former: usize) {
        until("another master", Duration::from_secs(30), || {
            let now = self.master();
            now != former && now < self.nodes.len() && cli(self.nodes[now].port, &["ROLE"]).starts_with("master")
        })
        .await;
    }
}

/// Three masters and three replicas.
pub struct Cluster {
    pub nodes: Vec<Node>,
    _directory: tempfile::TempDir,
}

impl Cluster {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let (port, bus) = (free_port(), free_port());
            let more = [
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus.to_string(),
                "--cluster-node-timeout",
                "1500",
                "--repl-diskless-sync-delay",
                "0",
            ];
            nodes.push(server(directory.path(), port, &more));
        }
        for node in &nodes {
            until("a node", Duration::from_secs(20), || cli(node.port, &["PING"]) == "PONG").await;
        }
        let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let said = tokio::task::block_in_place(|| cli(nodes[0].port, &create));
        assert!(said.contains("All 16384 slots covered"), "{said}");
        for node in &nodes {
            until("the Cluster", Duration::from_secs(30), || {
                cli(node.port, &["CLUSTER", "INFO"]).contains("cluster_state:ok")
            })
            .await;
        }
        let cluster = Self { nodes, _directory: directory };
        // A replica that has never synchronised cannot take over.
        for node in &cluster.nodes {
            until("the replicas", Duration::from_secs(30), || {
                let role = cli(node.port, &["ROLE"]);
                role.starts_with("master") || role.contains("connected")
            })
            .await;
        }
        cluster
    }

    pub fn configuration(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| format!("\"127.0.0.1:{}\"", node.port)).collect();
        format!("redis:\n  reconcile: 2s\n  cluster: [{}]\n", addresses.join(", "))
    }

    /// Indexes of the master nodes.
    pub fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| cli(self.nodes[*at].port, &["ROLE"]).starts_with("master")).collect()
    }

    /// Moves half of all slots to this master under load. Returns the number of slots moved.
    pub fn reshard(&self, to: usize) -> usize {
        let id = |at: usize| cli(self.nodes[at].port, &["CLUSTER", "MYID"]);
        let address = format!("127.0.0.1:{}", self.nodes[to].port);
        let from: Vec<String> = self.masters().into_iter().filter(|at| *at != to).map(id).collect();
        let before = self.slots(to);
        let said = cli(
            self.nodes[to].port,
            &[
                "--cluster",
                "reshard",
                &address,
                "--cluster-from",
                &from.join(","),
                "--cluster-to",
                &id(to),
                "--cluster-slots",
                "8192",
                "--cluster-yes",
                "--cluster-pipeline",
                "50",
            ],
        );
        assert!(!said.contains("[ERR]"), "{said}");
        self.slots(to) - before
    }

    /// The number of slots that a node reports for itself.
    fn slots(&self, at: usize) -> usize {
        let said = cli(self.nodes[at].port, &["CLUSTER", "NODES"]);
        let own = said.lines().find(|line| line.contains("myself")).unwrap_or_default().to_owned();
        let ranges = own.split(' ').skip(8).filter(|range| !range.starts_with('['));
        let counted = ranges.filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(last.parse::<usize>().ok()? - first.parse::<usize>().ok()? + 1)
        });
        counted.sum()
    }

    /// The number of errors with this code that the nodes returned.
    pub fn errors(&self, code: &str) -> u64 {
        let start = format!("errorstat_{code}:count=");
        let said = |node: &Node| {
            let all = cli(node.port, &["INFO", "errorstats"]);
            all.lines().find_map(|line| line.strip_prefix(&start)?.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.nodes.iter().map(said).sum()
    }

    /// Waits until every other node reports the Cluster as complete without this one.
    pub async fn until_whole_without(&self, gone: usize) {
        let others = || self.nodes.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, node)| node);
        until("a whole Cluster", Duration::from_secs(30), || {
            others().all(|node| {
                let whole = cli(node.port, &["CLUSTER", "INFO"]).contains("cluster_state:ok");
                let nodes = cli(node.port, &["CLUSTER", "NODES"]);
                whole && nodes.lines().filter(|line| line.contains("master") && !line.contains("fail")).count() == 3
            })
        })
        .await;
    }
}
