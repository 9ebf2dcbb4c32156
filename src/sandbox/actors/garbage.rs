//! The garbage collector: deletes what has lost its last owner. An ordinary client of the API.
//!
//! It also does the namespace controller's work: empties a namespace that is being deleted and finalizes it.
//! Unlike the real one it leaves a reference to an absent owner alone while another owner is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Client, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams,
        Preconditions,
    },
    discovery::{Discovery, Scope, verbs},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// How soon a step that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

type Meta = PartialObjectMeta<DynamicObject>;
type Events = BoxStream<'static, (TypeId, Event<Meta>)>;

/// Collects garbage until it is dropped.
pub async fn run_garbage_collector(client: Client) {
    let mut collector = Collector {
        client,
        types: BTreeMap::new(),
        unwatched: Vec::new(),
        known: BTreeMap::new(),
        owned: BTreeMap::new(),
        ending_namespaces: BTreeMap::new(),
        listed: BTreeMap::new(),
        again: BTreeSet::new(),
    };
    collector.discover().await;
    collector.run().await;
}

/// A resource type, by group and plural.
type TypeId = (String, String);

#[derive(Clone)]
struct Type {
    resource: ApiResource,
    namespaced: bool,
}

/// What is remembered of an object.
struct Known {
    of: TypeId,
    namespace: String,
    name: String,
    owners: Vec<OwnerReference>,
    finalizers: Vec<String>,
    ending: bool,
}

struct Collector {
    client: Client,
    types: BTreeMap<TypeId, Type>,
    /// Types that have been discovered and are to be watched.
    unwatched: Vec<TypeId>,
    /// Every object of the cluster, by UID.
    known: BTreeMap<String, Known>,
    /// The UIDs of what an object owns, by its own.
    owned: BTreeMap<String, BTreeSet<String>>,
    /// The UIDs of namespaces that are being deleted, by name.
    ending_namespaces: BTreeMap<String, String>,
    /// The UIDs of a type's list while it is being read.
    listed: BTreeMap<TypeId, BTreeSet<String>>,
    /// Objects to look at again because a call failed.
    again: BTreeSet<String>,
}

impl Collector {
    async fn run(&mut self) {
        let mut events: SelectAll<Events> = SelectAll::new();
        loop {
            for of in std::mem::take(&mut self.unwatched) {
                events.extend(self.watch(of));
            }
            let pause = async {
                if self.again.is_empty() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(RETRY_AFTER).await;
            };
            tokio::select! {
                event = events.next() => match event {
                    Some((of, event)) => self.take(&of, event).await,
                    None => {
                        tokio::time::sleep(RETRY_AFTER).await;
                        self.discover().await;
                    }
                },
                () = pause => {
                    for uid in std::mem::take(&mut self.again) {
                        self.look_at(&uid).await;
                    }
                }
            }
        }
    }

    /// Finds the types that are new. Called at the start and when definitions change.
    async fn discover(&mut self) {
        let Ok(discovery) = Discovery::new(self.client.clone()).run().await else { return };
        for (resource, capabilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
            let of = (resource.group.clone(), resource.plural.clone());
            if !self.types.contains_key(&of) && capabilities.supports_operation(verbs::WATCH) {
                let namespaced = capabilities.scope == Scope::Namespaced;
                self.types.insert(of.clone(), Type { resource, namespaced });
                self.unwatched.push(of);
            }
        }
    }

    /// The events of a type, until it is not served any more.
    fn watch(&self, of: TypeId) -> Option<Events> {
        let api: Api<Meta> = Api::all_with(self.client.clone(), &self.types.get(&of)?.resource);
        let events = watcher(api, watcher::Config::default())
            .default_backoff()
            .take_while(|event| std::future::ready(!is_unserved(event)))
            .filter_map(|event| std::future::ready(event.ok()));
        Some(events.map(move |event| (of.clone(), event)).boxed())
    }

    async fn take(&mut self, of: &TypeId, event: Event<Meta>) {
        match event {
            Event::Init => {
                self.listed.insert(of.clone(), BTreeSet::new());
            }
            Event::InitApply(object) => {
                let uid = object.uid().unwrap_or_default();
                self.listed.entry(of.clone()).or_default().insert(uid);
                self.remember(of, &object).await;
            }
            Event::InitDone => {
                let listed = self.listed.remove(of).unwrap_or_default();
                let gone: Vec<String> = self
                    .known
                    .iter()
                    .filter(|(uid, known)| known.of == *of && !listed.contains(*uid))
                    .map(|(uid, _)| uid.clone())
                    .collect();
                for uid in gone {
                    self.forget(&uid).await;
                }
            }
            Event::Apply(object) => self.remember(of, &object).await,
            Event::Delete(object) => self.forget(&object.uid().unwrap_or_default()).await,
        }
    }

    async fn remember(&mut self, of: &TypeId, object: &Meta) {
        let known = Known {
            of: of.clone(),
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            owners: object.owner_references().to_vec(),
            finalizers: object.finalizers().to_vec(),
            ending: object.metadata.deletion_timestamp.is_some(),
        };
        let uid = object.uid().unwrap_or_default();
        if let Some(before) = self.known.remove(&uid) {
            self.take_out(&uid, &before);
        }
        for owner in &known.owners {
            self.owned.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        if known.ending && known.of == namespaces() {
            self.ending_namespaces.insert(known.name.clone(), uid.clone());
        }
        self.known.insert(uid.clone(), known);
        if of.1 == "customresourcedefinitions" {
            self.discover().await;
        }
        self.look_at(&uid).await;
    }

    async fn forget(&mut self, uid: &str) {
        let Some(gone) = self.known.remove(uid) else { return };
        self.take_out(uid, &gone);
        if gone.of.1 == "customresourcedefinitions" {
            // A definition of the same name may come back; its type is then watched anew.
            self.types.retain(|of, _| format!("{}.{}", of.1, of.0) != gone.name);
        }
        let concerned: Vec<String> = self.dependents(uid);
        for uid in concerned.into_iter().chain(self.waiting_for(&gone)) {
            self.look_at(&uid).await;
        }
    }

    fn take_out(&mut self, uid: &str, known: &Known) {
        if known.of == namespaces() {
            self.ending_namespaces.remove(&known.name);
        }
        for owner in &known.owners {
            if let Some(owned) = self.owned.get_mut(&owner.uid) {
                owned.remove(uid);
                if owned.is_empty() {
                    self.owned.remove(&owner.uid);
                }
            }
        }
    }

    fn dependents(&self, uid: &str) -> Vec<String> {
        self.owned.get(uid).into_iter().flatten().cloned().collect()
    }

    /// Owners that are deleted after their dependents, and the namespace that is being emptied.
    fn waiting_for(&self, gone: &Known) -> Vec<String> {
        let is_ending = |uid: &&String| self.known.get(*uid).is_some_and(|known| known.ending);
        let owners = gone.owners.iter().map(|owner| &owner.uid).filter(is_ending);
        owners.chain(self.ending_namespaces.get(&gone.namespace)).cloned().collect()
    }

    async fn look_at(&mut self, uid: &str) {
        if let Err(error) = self.work_on(uid).await
            && !matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
        {
            tracing::debug!(%error, uid, "garbage collection step failed, trying again");
            self.again.insert(uid.to_owned());
        }
    }

    async fn work_on(&self, uid: &str) -> kube::Result<()> {
        let Some(known) = self.known.get(uid) else { return Ok(()) };
        if known.ending && known.of == namespaces() {
            return self.empty_namespace(&known.name).await;
        }
        if known.ending && known.finalizers.iter().any(|one| one == ORPHAN) {
            return self.orphan_dependents(uid, known).await;
        }
        if known.ending && known.finalizers.iter().any(|one| one == FOREGROUND) {
            return self.delete_dependents_first(uid, known).await;
        }
        if known.owners.is_empty() || known.ending {
            return Ok(());
        }
        for owner in &known.owners {
            if self.exists(owner, &known.namespace).await? {
                return Ok(());
            }
        }
        self.delete(uid, known).await
    }

    /// Whether an owner is there. Its absence from memory proves nothing: its watch may be behind.
    async fn exists(&self, owner: &OwnerReference, namespace: &str) -> kube::Result<bool> {
        if self.known.contains_key(&owner.uid) {
            return Ok(true);
        }
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let mut types = self.types.values();
        let Some(kind) = types.find(|kind| kind.resource.group == group && kind.resource.kind == owner.kind)
        else {
            // A type that is not served now may be again; a real collector waits for it, too.
            return Ok(true);
        };
        let found = self.api(kind, namespace).get_opt(&owner.name).await?;
        Ok(found.is_some_and(|found| found.metadata.uid.as_deref() == Some(&owner.uid)))
    }

    async fn delete(&self, uid: &str, known: &Known) -> kube::Result<()> {
        let only_this = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let parameters = DeleteParams::background().preconditions(only_this);
        let Some(api) = self.api_of(known) else { return Ok(()) };
        api.delete(&known.name, &parameters).await.map(|_| ())
    }

    async fn delete_dependents_first(&self, uid: &str, known: &Known) -> kube::Result<()> {
        let dependents = self.dependents(uid);
        for dependent in &dependents {
            if let Some(known) = self.known.get(dependent).filter(|known| !known.ending) {
                self.delete(dependent, known).await?;
            }
        }
        if dependents.is_empty() { self.remove_finalizer(known, FOREGROUND).await } else { Ok(()) }
    }

    async fn orphan_dependents(&self, uid: &str, known: &Known) -> kube::Result<()> {
        for dependent in self.dependents(uid) {
            let Some(dependent) = self.known.get(&dependent) else { continue };
            let others: Vec<_> = dependent.owners.iter().filter(|owner| owner.uid != uid).collect();
            self.patch(dependent, json!({"metadata": {"ownerReferences": others}})).await?;
        }
        self.remove_finalizer(known, ORPHAN).await
    }

    async fn remove_finalizer(&self, known: &Known, finalizer: &str) -> kube::Result<()> {
        let others: Vec<_> = known.finalizers.iter().filter(|one| *one != finalizer).collect();
        self.patch(known, json!({"metadata": {"finalizers": others}})).await
    }

    async fn patch(&self, known: &Known, patch: serde_json::Value) -> kube::Result<()> {
        let Some(api) = self.api_of(known) else { return Ok(()) };
        api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
    }

    async fn empty_namespace(&self, name: &str) -> kube::Result<()> {
        let mut is_empty = true;
        for kind in self.types.values().filter(|kind| kind.namespaced) {
            let api = self.api(kind, name);
            let some = api.list(&ListParams::default().limit(1)).await?;
            if !some.items.is_empty() {
                is_empty = false;
                api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
            }
        }
        // What was deleted at once is told by the watches, and then this is called again.
        if is_empty { self.finalize_namespace(name).await } else { Ok(()) }
    }

    async fn finalize_namespace(&self, name: &str) -> kube::Result<()> {
        let namespace = json!({"metadata": {"name": name}, "spec": {"finalizers": []}});
        let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(namespace.to_string().into_bytes())
            .map_err(|error| kube::Error::Service(error.into()))?;
        self.client.request_text(request).await.map(|_| ())
    }

    fn api_of(&self, known: &Known) -> Option<Api<Meta>> {
        self.types.get(&known.of).map(|kind| self.api(kind, &known.namespace))
    }

    fn api(&self, kind: &Type, namespace: &str) -> Api<Meta> {
        if kind.namespaced {
            Api::namespaced_with(self.client.clone(), namespace, &kind.resource)
        } else {
            Api::all_with(self.client.clone(), &kind.resource)
        }
    }
}

/// The type itself has gone: its definition was deleted.
fn is_unserved(event: &watcher::Result<Event<Meta>>) -> bool {
    match event {
        Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) => status.code == 404,
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) => status.code == 404,
        _ => false,
    }
}

fn namespaces() -> TypeId {
    (String::new(), "namespaces".to_owned())
}
