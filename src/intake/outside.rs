//! Bodies of Amazon SNS that ask something of Amazon before they are taken: a signature that the integration wants checked,
//! a subscription that waits to be confirmed. The one thing between body and answer that leaves this machine, and only where
//! the configuration asks for it by name.

use std::sync::Arc;

use bytes::Bytes;

use super::event::Said;
use super::known::{invalid, not_json};
use super::{Came, Intake, Known, Trail};
use crate::body::Reserved;
use crate::dialect::json;
use crate::dialect::sns_envelope::{self, Wanted};
use crate::event::Tolerated;
use crate::gate::Integration;
use crate::metrics::Ticket;
use crate::outcome::{Reason, Refusal};
use crate::sns::Unproven;

/// The dialect whose bodies are asked of.
const DIALECT: &str = "sns";

/// A body that is looked into before it is read.
pub(super) struct Unread {
    pub(super) raw: Bytes,
    pub(super) tolerated: Tolerated,
    pub(super) ticket: Ticket,
}

/// Whether a body has to be looked into: every one where signatures are checked, else those that speak of a subscription.
pub(super) fn asks(known: &Known, body: &[u8]) -> bool {
    known.dialect.name() == DIALECT
        && (known.integration.config.settings.sns.verify || memchr::memmem::find(body, b"Confirmation").is_some())
}

impl Intake {
    /// Looks into a body, then takes it in as any other.
    pub(super) async fn prove(
        &self,
        came: &Came<'_>,
        known: &Known,
        unread: Unread,
        reserved: Reserved,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        let Unread { raw, tolerated, ticket } = unread;
        let (ticket, ()) = ticket.check(self.believe(known, &raw).await)?;
        let (ticket, heard) = ticket.check(self.hear(known, &raw))?;
        let body = Said { raw, tolerated, envelope: None };
        match self.act(came, known, heard, (body, reserved), ticket, trail)? {
            Some(underway) => self.wait_for(came, known, underway.on, trail).await,
            None => Ok(()),
        }
    }

    async fn believe(&self, known: &Known, raw: &Bytes) -> Result<(), Refusal> {
        let asked = known.asked(None);
        let sns = &known.integration.config.settings.sns;
        // A raw delivery has neither envelope nor signature.
        let made = known.dialect.as_json(&asked, raw).map_err(invalid)?;
        let look = |document: json::Document<'_>| {
            let signed = sns.verify.then(|| sns_envelope::signed(&asked, document));
            (signed, sns_envelope::wanted(&asked, document))
        };
        let (signed, wanted) = json::with_document(made.as_deref().unwrap_or(raw), look).map_err(not_json)?;
        if let Some(signed) = signed {
            let signed = signed.map_err(|faults| not_signed().with_errors(faults))?;
            self.amazon.verify(&signed).await.map_err(|unproven| match unproven {
                Unproven::Wrong => not_signed(),
                Unproven::NoCertificate => {
                    let message = "the signature cannot be checked just now; nothing was accepted, send it again";
                    Refusal::new(Reason::SignatureUnchecked, message)
                }
            })?;
        }
        if let Some(wanted) = wanted {
            self.follow(&known.integration, wanted);
        }
        Ok(())
    }

    /// What a subscription that begins or ends brings about. Its answer waits for none of it.
    fn follow(&self, integration: &Arc<Integration>, wanted: Wanted) {
        let (sns, name) = (&integration.config.settings.sns, Arc::clone(&integration.config.name));
        match wanted {
            Wanted::Unsubscribed { topic } => {
                self.metrics.sns_unsubscribed.inc();
                tracing::warn!(integration = &*name, topic, "a subscription of SNS has ended");
            }
            Wanted::Confirm { url, topic } if sns.auto_confirm && sns.topics.iter().any(|known| **known == *topic) => {
                let (amazon, metrics) = (Arc::clone(&self.amazon), Arc::clone(&self.metrics));
                tokio::spawn(async move {
                    match amazon.confirm(&url).await {
                        Ok(()) => tracing::info!(integration = &*name, topic, "a subscription of SNS is confirmed"),
                        Err(error) => {
                            metrics.sns_unconfirmed.inc();
                            tracing::warn!(
                                integration = &*name,
                                topic,
                                error,
                                "a subscription of SNS is not confirmed"
                            );
                        }
                    }
                });
            }
            Wanted::Confirm { topic, .. } => {
                self.metrics.sns_unconfirmed.inc();
                let hint = "visit its SubscribeURL, or set sns.auto_confirm and sns.topics";
                tracing::warn!(integration = &*name, topic, hint, "a subscription of SNS waits to be confirmed");
            }
        }
    }
}

fn not_signed() -> Refusal {
    Refusal::new(Reason::NotSigned, "the body is not signed by Amazon SNS")
}
