//! Authorising and loading in one step: a handler that takes a [`Found`] has the thing, within its caller's reach, or does not run.
//!
//! For what is only looked at. A change loads what it changes in its own transaction, under its lock; there the use case authorises
//! and loads in one step, since what was read before it would be an older state.

use crate::{
    ApiState,
    extract::{Caller, Needs},
    once::Stop,
};
use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use futures_util::future::LocalBoxFuture;
use omt_kernel::{
    Actor, EndpointId, Error, EvidenceId, JobId, ManifestId, Result, UserId, WorkflowId, access::UserRecord,
    governance::EvidenceRecord, job::JobRecord, manifest::ManifestRecord,
};
use omt_notify::webhook::Endpoint;
use omt_workflow::WorkflowView;
use std::marker::PhantomData;
use uuid::Uuid;

/// What can be looked at by its identifier.
pub trait Lookup: Sized + 'static {
    /// Finds it for an actor; what the actor is not to see is 404.
    fn find(state: &ApiState, actor: &Actor, id: Uuid) -> impl Future<Output = Result<Self>>;
}

macro_rules! lookups {
    ($($thing:ty: $room:ident.$method:ident($id:ident)),+ $(,)?) => {
        $(impl Lookup for $thing {
            async fn find(state: &ApiState, actor: &Actor, id: Uuid) -> Result<Self> {
                state.$room.$method(actor, $id(id)).await
            }
        })+
    };
}

lookups!(
    ManifestRecord: manifests.get(ManifestId),
    WorkflowView: workflows.get(WorkflowId),
    UserRecord: access.user(UserId),
    Endpoint: webhooks.get(EndpointId),
    EvidenceRecord: compliance.evidence(EvidenceId),
    JobRecord: jobs.get(JobId),
);

/// The thing that the path's `id` names, for whoever makes the request: authenticated, allowed what `N` needs, and within reach of it.
pub struct Found<N, T> {
    /// Whoever makes the request.
    pub actor: Actor,
    /// The thing.
    pub thing: T,
    needs: PhantomData<N>,
}

impl<N: Needs, T: Lookup> FromRequest for Found<N, T> {
    type Error = Stop;
    type Future = LocalBoxFuture<'static, std::result::Result<Self, Stop>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (caller, request) = (Caller::<N>::from_request(request, payload), request.clone());
        Box::pin(async move {
            let Caller(actor, needs) = caller.await?;
            let state = request.app_data::<web::Data<ApiState>>().ok_or_else(|| Error::internal("no application state"))?;
            let id = request.match_info().get("id").and_then(|id| Uuid::try_parse(id).ok());
            let thing = T::find(state, &actor, id.ok_or_else(|| Error::not_found("resource"))?).await?;
            Ok(Self { actor, thing, needs })
        })
    }
}
