//! The listener of the HTTP API and the back office: who is asked for what.

use std::net::{IpAddr, SocketAddr};

use crate::admin::Admin;
use crate::api::Api;
use crate::http::{Method, Status};
use crate::service::{Service, ServiceReply, ServiceRequest};

/// The API and, under `/admin`, the back office, for requests by a name that is theirs.
pub(super) struct Front {
    hosts: Vec<String>,
    api: Api,
    admin: Option<Admin>,
}

/// Paths that are for whoever looks whether the server is well, under whatever name it is found.
const HEALTH: [&str; 2] = ["/live", "/ready"];

impl Front {
    /// `hosts` are names besides those of this machine and the address that is listened on.
    pub(super) fn new(listen: SocketAddr, hosts: &[String], api: Api, admin: Option<Admin>) -> Self {
        let own = match listen.ip() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let names = ["localhost", "127.0.0.1", "[::1]", &own].into_iter().map(str::to_owned);
        let hosts = names.chain(hosts.iter().map(|host| host.to_ascii_lowercase())).collect();
        Self { hosts, api, admin }
    }

    /// Whether a request comes by a name that is ours. A page elsewhere can have its own name lead to this machine, and
    /// speaks then as a page of this origin (DNS rebinding); only the name tells.
    fn is_ours(&self, request: &ServiceRequest) -> bool {
        let Some(host) = request.header("host") else { return false };
        let host = host.to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &host,
        };
        self.hosts.iter().any(|own| own == name || *own == host)
    }
}

impl Service for Front {
    fn call(&self, request: &ServiceRequest, at: u64) -> ServiceReply {
        if !HEALTH.contains(&&*request.path) && !self.is_ours(request) {
            return ServiceReply::new(Status::MisdirectedRequest).header("cache-control", "no-store").body(
                "text/plain; charset=utf-8",
                b"this server does not go by that name (api.hosts)\n".as_slice(),
            );
        }
        let is_office = request.path == "/admin" || request.path.starts_with("/admin/");
        match &self.admin {
            Some(admin) if is_office => admin.call(request, at),
            Some(_) if request.path == "/" && matches!(request.method, Method::Get | Method::Head) => {
                ServiceReply::new(Status::SeeOther).header("location", "/admin")
            }
            _ => self.api.call(request, at),
        }
    }
}
