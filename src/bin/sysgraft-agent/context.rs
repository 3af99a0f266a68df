//! What every verb works on.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use sysgraft::extension::ExtensionKind;
use sysgraft::node::Node;
use sysgraft::node::boot_state::BootState;
use sysgraft::node::configuration::{Configuration, DEFAULT_PATH};
use sysgraft::node::host::SystemdVersion;
use sysgraft::node::layout::Layout;
use sysgraft::node::transaction::Options;
use sysgraft::terminal::text;

/// Which node, and how much to say. Taken before and after the verb.
#[derive(Args)]
pub struct NodeArguments {
    /// Say every step
    #[arg(long, global = true, env = "KAIROS_AGENT_DEBUG", value_parser = clap::builder::FalseyValueParser::new())]
    debug: bool,
    /// Work on the node whose root folder this is
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where the node keeps its extensions [default: /var/lib/kairos]
    #[arg(long, global = true, value_name = "DIR", value_parser = absolute)]
    state_dir: Option<PathBuf>,
    /// How the node is to be treated [default: /etc/sysgraft/agent.toml of the node]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Links lead into the folder, and mean nothing if it depends on where a program was started.
fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err("it must begin with a slash")
    }
}

impl NodeArguments {
    /// The root folder of the node.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the node keeps its extensions, if that was said.
    pub fn state_dir(&self) -> Option<&Path> {
        self.state_dir.as_deref()
    }

    /// How the node is to be treated, if that was said.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The node.
    pub fn node(&self) -> Result<Node> {
        let of_node = Layout::new(&self.root, "/").open_path(DEFAULT_PATH);
        let configuration = Configuration::find(self.config(), &of_node)?;
        let state_dir = self.state_dir.as_ref();
        let layout = Layout::new(&self.root, state_dir.unwrap_or(&configuration.state_dir));
        Ok(Node {
            boot_state: BootState::of(&layout),
            systemd: SystemdVersion::of_this_host(),
            layout,
            configuration,
        })
    }

    /// Whether every step is to be said.
    pub fn debug(&self) -> bool {
        self.debug
    }

    /// The node, and its extensions of a kind.
    pub fn context(&self, kind: ExtensionKind) -> Result<Context> {
        Ok(Context {
            node: self.node()?,
            kind,
            debug: self.debug,
        })
    }
}

/// A node, and the kind of extensions that a command is about.
pub struct Context {
    pub node: Node,
    pub kind: ExtensionKind,
    pub debug: bool,
}

impl Context {
    /// `system` or `configuration`.
    pub fn adjective(&self) -> &'static str {
        match self.kind {
            ExtensionKind::Sysext => "system",
            ExtensionKind::Confext => "configuration",
        }
    }

    /// The same at the beginning of a sentence.
    pub fn title(&self) -> &'static str {
        match self.kind {
            ExtensionKind::Sysext => "System",
            ExtensionKind::Confext => "Configuration",
        }
    }

    /// What merges the extensions.
    pub fn merger(&self) -> String {
        format!("systemd-{}", self.kind)
    }

    /// Says what only those want to know who asked for it.
    pub fn debug(&self, message: &str) {
        if self.debug {
            text::log(message);
        }
    }

    /// How a changing verb works.
    pub fn options<'a>(&self, change: ChangeArguments, notify: &'a dyn Fn(&str)) -> Options<'a> {
        Options {
            now: change.now,
            dry_run: change.dry_run,
            notify,
        }
    }
}

/// How a change is made.
#[derive(Args, Clone, Copy)]
pub struct ChangeArguments {
    /// Let systemd merge the outcome now
    #[arg(long)]
    pub now: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was done as JSON
    #[arg(long)]
    pub json: bool,
}
