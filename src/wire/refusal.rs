use super::codes::codes;

codes! {
    /// Why the edge refused a connector: the code in REFUSED, on a link and in an enrolment.
    pub enum RegistrationRefusal {
        Credentials = 1, "the tunnel id or its secret is unknown to this edge";
        Version = 2, "no protocol version in common";
        Overloaded = 3, "the edge has no room for another connector now; try again later";
        Draining = 4, "the edge is shutting down; dial another one";
        Revoked = 5, "the tunnel has been revoked";
        Internal = 6, "an internal error of the edge";
        Address = 7, "the tunnel may not be served from this address";
        CertificateMissing = 8, "the edge requires a certificate, and the connector presented none";
        CertificateOfOther = 9, "the certificate belongs to another tunnel";
        Malformed = 10, "the request is malformed";
        KeyUnproven = 11, "the certificate request does not prove a usable key";
        ProvisioningKey = 12, "the provisioning key is unknown, has expired or is used up, or does not allow this host";
        ProvisioningOff = 13, "the edge accepts no provisioning keys";
    }
}

impl RegistrationRefusal {
    /// Whether the same credentials will be refused until somebody makes a change.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            RegistrationRefusal::Credentials
                | RegistrationRefusal::Version
                | RegistrationRefusal::Revoked
                | RegistrationRefusal::Address
                | RegistrationRefusal::Malformed
                | RegistrationRefusal::KeyUnproven
                | RegistrationRefusal::ProvisioningKey
                | RegistrationRefusal::ProvisioningOff
        )
    }

    /// Whether the certificate is the reason, so that another one would help.
    #[must_use]
    pub const fn is_of_certificate(self) -> bool {
        matches!(self, RegistrationRefusal::CertificateMissing | RegistrationRefusal::CertificateOfOther)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_round_trip() {
        let codes: HashSet<u16> = RegistrationRefusal::ALL.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), RegistrationRefusal::ALL.len());
        assert!(
            RegistrationRefusal::ALL.iter().all(|refusal| RegistrationRefusal::from_code(refusal.code()) == *refusal)
        );
    }

    #[test]
    fn every_refusal_is_in_the_protocol_page() {
        let page = include_str!("../../docs/PROTOCOL.md");
        for refusal in RegistrationRefusal::ALL {
            let row = format!("| {} | {refusal:?} | {refusal} |", refusal.code());
            assert!(page.contains(&row), "docs/PROTOCOL.md lacks {row}");
        }
    }

    #[test]
    fn refusals_that_another_certificate_solves_are_not_final() {
        assert!(RegistrationRefusal::ALL.iter().all(|refusal| !(refusal.is_final() && refusal.is_of_certificate())));
        assert!(!RegistrationRefusal::Overloaded.is_final() && !RegistrationRefusal::Unrecognized(999).is_final());
    }
}
