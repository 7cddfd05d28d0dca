//! The listener of the HTTP API and the back office: who is asked for what.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::admin::Admin;
use crate::api::Api;
use crate::auth::origin::HostName;
use crate::http::{Method, Status};
use crate::service::{Service, ServiceReply, ServiceRequest};

/// The API and, under `/admin`, the back office, for requests by a name that is theirs.
pub(super) struct Front {
    hosts: Arc<[HostName]>,
    api: Api,
    admin: Option<Admin>,
}

/// Paths that are for whoever looks whether the server is well, under whatever name it is found.
const HEALTH: [&str; 2] = ["/live", "/ready"];

/// The names of a listener: those of this machine, the address that is listened on, and `more`, which are names or
/// addresses.
pub(super) fn own_hosts(listen: SocketAddr, more: &[String]) -> Arc<[HostName]> {
    let local: [IpAddr; 3] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), listen.ip()];
    let name = |text: &String| match text.parse::<IpAddr>() {
        Ok(address) => Some(address.into()),
        Err(_) => text.parse().ok(),
    };
    let named = ["localhost".to_owned()].iter().chain(more).filter_map(name).collect::<Vec<_>>();
    local.into_iter().map(HostName::from).chain(named).collect()
}

impl Front {
    /// `hosts` are all names by which requests may come.
    pub(super) fn new(hosts: Arc<[HostName]>, api: Api, admin: Option<Admin>) -> Self {
        Self { hosts, api, admin }
    }

    /// Whether a request comes by a name that is ours. A page elsewhere can have its own name lead to this machine, and
    /// speaks then as a page of this origin (DNS rebinding); only the name tells. The address that the connection came to
    /// is no name that could lead elsewhere: a page that asks for it has it from no DNS, and shows it as its own host.
    /// Its port may be another one, as with names: a proxy or a container may have changed it.
    fn is_ours(&self, request: &ServiceRequest) -> bool {
        let Some(host) = request.host() else { return false };
        let came_to = request.local.map(|local| local.to_canonical());
        self.hosts.contains(&host) || (came_to.is_some() && host.address() == came_to)
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
