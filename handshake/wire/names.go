package wire

import (
	"crypto/tls"
	"fmt"
)

// GREASE reports whether v is reserved to keep servers tolerant (RFC 8701).
func GREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// VersionName is "1.3" for TLS 1.3, and "SSL 3.0" for what came before TLS.
func VersionName(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "1.3"
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS11:
		return "1.1"
	case tls.VersionTLS10:
		return "1.0"
	case 0x0300:
		return "SSL 3.0"
	}
	return fmt.Sprintf("0x%04x", v)
}

// GroupName is the name in IANA's TLS Supported Groups registry.
func GroupName(g uint16) string {
	switch g {
	case 23:
		return "secp256r1"
	case 24:
		return "secp384r1"
	case 25:
		return "secp521r1"
	case 29:
		return "X25519"
	case 30:
		return "X448"
	case 4587:
		return "SecP256r1MLKEM768"
	case 4588:
		return "X25519MLKEM768"
	case 4589:
		return "SecP384r1MLKEM1024"
	case 256:
		return "ffdhe2048"
	}
	return fmt.Sprintf("0x%04x", g)
}

// SchemeName is the name in IANA's TLS SignatureScheme registry.
func SchemeName(s uint16) string {
	switch s {
	case 0x0403:
		return "ecdsa_secp256r1_sha256"
	case 0x0503:
		return "ecdsa_secp384r1_sha384"
	case 0x0603:
		return "ecdsa_secp521r1_sha512"
	case 0x0804:
		return "rsa_pss_rsae_sha256"
	case 0x0805:
		return "rsa_pss_rsae_sha384"
	case 0x0806:
		return "rsa_pss_rsae_sha512"
	case 0x0807:
		return "ed25519"
	case 0x0401:
		return "rsa_pkcs1_sha256"
	case 0x0501:
		return "rsa_pkcs1_sha384"
	case 0x0601:
		return "rsa_pkcs1_sha512"
	case 0x0201:
		return "rsa_pkcs1_sha1"
	case 0x0203:
		return "ecdsa_sha1"
	}
	return fmt.Sprintf("0x%04x", s)
}

// AlertName is the name in IANA's TLS Alerts registry.
func AlertName(description byte) string {
	if name, ok := alertNames[description]; ok {
		return name
	}
	return fmt.Sprintf("alert_%d", description)
}

var alertNames = map[byte]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed", 22: "record_overflow",
	30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate",
	43: "unsupported_certificate", 44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
	47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error", 51: "decrypt_error",
	60: "export_restriction", 70: "protocol_version", 71: "insufficient_security", 80: "internal_error",
	86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
	110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 115: "unknown_psk_identity", 116: "certificate_required",
	120: "no_application_protocol", 121: "ech_required",
}
