//! What runs sysgraft elsewhere: the GitHub Action, the template for GitLab, and the manifests for
//! Kubernetes. Each is judged by its schema, and its scripts and command lines are run.

#[path = "support/extension_image.rs"]
mod extension_image;
#[path = "pipelines/github.rs"]
mod github;
#[path = "pipelines/gitlab.rs"]
mod gitlab;
#[path = "pipelines/judges.rs"]
mod judges;
#[path = "pipelines/manifests.rs"]
mod manifests;
#[path = "pipelines/node.rs"]
mod node;
#[path = "support/node_host.rs"]
mod node_host;
#[path = "support/node_nginx.rs"]
mod node_nginx;
#[path = "pipelines/pod.rs"]
mod pod;
#[path = "pipelines/pods.rs"]
mod pods;
#[path = "support/published.rs"]
mod published;
#[path = "support/registry_image.rs"]
mod registry_image;
#[path = "support/registry_real.rs"]
mod registry_real;
mod support;
#[path = "support/workplace.rs"]
mod workplace;
