//! Which container engine is asked.

use clap::Args;

/// The engine of `docker-daemon:REF` and of bare references.
#[derive(Args)]
pub struct EngineArguments {
    /// Container engine: unix:///PATH or tcp://HOST:PORT, with TLS as Docker's DOCKER_TLS_VERIFY and
    /// DOCKER_CERT_PATH say [default: DOCKER_HOST, DOCKER_CONTEXT, CONTAINER_HOST, Docker's current
    /// context, or the usual sockets]
    #[arg(long, value_name = "ADDRESS")]
    pub engine: Option<String>,
}
