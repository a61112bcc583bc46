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
func GroupName(g uint16) string { return named(&groupNames, g) }

// SchemeName is the name in IANA's TLS SignatureScheme registry.
func SchemeName(s uint16) string { return named(&schemeNames, s) }

// ExtensionName is the name in IANA's TLS ExtensionType Values registry.
func ExtensionName(id uint16) string {
	if GREASE(id) {
		return "GREASE"
	}
	return named(&extensionNames, id)
}

// SuiteName is the name in IANA's TLS Cipher Suites registry.
func SuiteName(id uint16) string { return named(&suiteNames, id) }

// suiteNames are those that crypto/tls knows, and those that clients offer beside them.
var suiteNames = func() registry {
	m := map[uint16]string{
		0x00ff: "TLS_EMPTY_RENEGOTIATION_INFO_SCSV", 0x5600: "TLS_FALLBACK_SCSV",
		0x0001: "TLS_RSA_WITH_NULL_MD5", 0x0004: "TLS_RSA_WITH_RC4_128_MD5", 0x0016: "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA",
		0x0032: "TLS_DHE_DSS_WITH_AES_128_CBC_SHA", 0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA", 0x0038: "TLS_DHE_DSS_WITH_AES_256_CBC_SHA",
		0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA", 0x003d: "TLS_RSA_WITH_AES_256_CBC_SHA256", 0x0040: "TLS_DHE_DSS_WITH_AES_128_CBC_SHA256",
		0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256", 0x006a: "TLS_DHE_DSS_WITH_AES_256_CBC_SHA256", 0x006b: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
		0x009e: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", 0x009f: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
		0x00a2: "TLS_DHE_DSS_WITH_AES_128_GCM_SHA256", 0x00a3: "TLS_DHE_DSS_WITH_AES_256_GCM_SHA384",
		0x1304: "TLS_AES_128_CCM_SHA256", 0x1305: "TLS_AES_128_CCM_8_SHA256", 0xc008: "TLS_ECDHE_ECDSA_WITH_3DES_EDE_CBC_SHA",
		0xc024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384", 0xc028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
		0xccaa: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		m[suite.ID] = suite.Name
	}
	return newRegistry(m)
}()

// registry finds names by their number in two steps; it is asked some sixty times a handshake.
type registry [256]*[256]string

func newRegistry(names map[uint16]string) (r registry) {
	for v, name := range names {
		if r[v>>8] == nil {
			r[v>>8] = new([256]string)
		}
		r[v>>8][v&255] = name
	}
	return r
}

func named(r *registry, v uint16) string {
	if page := r[v>>8]; page != nil && page[v&255] != "" {
		return page[v&255]
	}
	return fmt.Sprintf("0x%04x", v)
}

var groupNames = newRegistry(map[uint16]string{
	19: "secp192r1", 21: "secp224r1", 22: "secp256k1", 23: "secp256r1", 24: "secp384r1", 25: "secp521r1", 29: "X25519", 30: "X448",
	26: "brainpoolP256r1", 27: "brainpoolP384r1", 28: "brainpoolP512r1", 31: "brainpoolP256r1tls13", 32: "brainpoolP384r1tls13", 33: "brainpoolP512r1tls13",
	256: "ffdhe2048", 257: "ffdhe3072", 258: "ffdhe4096", 259: "ffdhe6144", 260: "ffdhe8192",
	512: "MLKEM512", 513: "MLKEM768", 514: "MLKEM1024", 4587: "SecP256r1MLKEM768", 4588: "X25519MLKEM768", 4589: "SecP384r1MLKEM1024",
	25497: "X25519Kyber768Draft00",
})

var schemeNames = newRegistry(map[uint16]string{
	0x0201: "rsa_pkcs1_sha1", 0x0202: "dsa_sha1", 0x0203: "ecdsa_sha1", 0x0301: "rsa_pkcs1_sha224", 0x0302: "dsa_sha224", 0x0303: "ecdsa_sha224", 0x0402: "dsa_sha256", 0x0502: "dsa_sha384", 0x0602: "dsa_sha512",
	0x0401: "rsa_pkcs1_sha256", 0x0501: "rsa_pkcs1_sha384", 0x0601: "rsa_pkcs1_sha512",
	0x0403: "ecdsa_secp256r1_sha256", 0x0503: "ecdsa_secp384r1_sha384", 0x0603: "ecdsa_secp521r1_sha512",
	0x0804: "rsa_pss_rsae_sha256", 0x0805: "rsa_pss_rsae_sha384", 0x0806: "rsa_pss_rsae_sha512", 0x0807: "ed25519", 0x0808: "ed448",
	0x0809: "rsa_pss_pss_sha256", 0x080a: "rsa_pss_pss_sha384", 0x080b: "rsa_pss_pss_sha512",
	0x0904: "mldsa44", 0x0905: "mldsa65", 0x0906: "mldsa87",
})

var extensionNames = newRegistry(map[uint16]string{
	0: "server_name", 1: "max_fragment_length", 2: "client_certificate_url", 3: "trusted_ca_keys", 4: "truncated_hmac", 5: "status_request",
	6: "user_mapping", 7: "client_authz", 8: "server_authz", 9: "cert_type", 10: "supported_groups", 11: "ec_point_formats", 12: "srp",
	13: "signature_algorithms", 14: "use_srtp", 15: "heartbeat", 16: "application_layer_protocol_negotiation", 17: "status_request_v2",
	18: "signed_certificate_timestamp", 19: "client_certificate_type", 20: "server_certificate_type", 21: "padding", 22: "encrypt_then_mac",
	23: "extended_main_secret", 24: "token_binding", 25: "cached_info", 26: "tls_lts", 27: "compress_certificate", 28: "record_size_limit",
	29: "pwd_protect", 30: "pwd_clear", 31: "password_salt", 32: "ticket_pinning", 33: "tls_cert_with_extern_psk", 34: "delegated_credential",
	35: "session_ticket", 36: "TLMSP", 37: "TLMSP_proxying", 38: "TLMSP_delegate", 39: "supported_ekt_ciphers", 41: "pre_shared_key",
	42: "early_data", 43: "supported_versions", 44: "cookie", 45: "psk_key_exchange_modes", 47: "certificate_authorities", 48: "oid_filters",
	49: "post_handshake_auth", 50: "signature_algorithms_cert", 51: "key_share", 52: "transparency_info", 53: "connection_id_deprecated",
	54: "connection_id", 55: "external_id_hash", 56: "external_session_id", 57: "quic_transport_parameters", 58: "ticket_request",
	59: "dnssec_chain", 60: "sequence_number_encryption_algorithms", 61: "rrc", 62: "tls_flags", 13172: "next_protocol_negotiation",
	17513: "application_settings", 17613: "application_settings", 64768: "ech_outer_extensions", 65037: "encrypted_client_hello", 65281: "renegotiation_info",
})

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
