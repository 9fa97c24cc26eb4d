//! The FINGERPRINT attribute (RFC 8489 §7 and §14.7): a CRC that tells STUN from its neighbours.

/// The whole attribute in bytes: its header and the 32-bit value.
pub(super) const FINGERPRINT_LEN: usize = 8;

/// The value for a message whose bytes before the FINGERPRINT attribute are `covered`; the length
/// field among them already counts the attribute.
//= https://www.rfc-editor.org/rfc/rfc8489#section-14.7
//# The value of the attribute is computed as the CRC-32 of the STUN
//# message up to (but excluding) the FINGERPRINT attribute itself,
//# XOR'ed with the 32-bit value 0x5354554e.
pub(super) fn fingerprint(covered: &[u8]) -> u32 {
    crc32fast::hash(covered) ^ 0x5354_554E
}
