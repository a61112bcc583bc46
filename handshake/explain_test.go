package handshake

import (
	"strings"
	"testing"

	"padlock/handshake/wire"
)

// Real texts of the programs that people use.
func TestErrorTextsAreExplained(t *testing.T) {
	for text, title := range map[string]string{
		"curl: (60) SSL certificate problem: unable to get local issuer certificate":    "The CA is not trusted",
		"NET::ERR_CERT_AUTHORITY_INVALID":                                               "The CA is not trusted",
		"SEC_ERROR_UNKNOWN_ISSUER":                                                      "The CA is not trusted",
		"Error: unable to verify the first certificate UNABLE_TO_VERIFY_LEAF_SIGNATURE": "The CA is not trusted",
		"javax.net.ssl.SSLHandshakeException: PKIX path building failed: sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target": "The CA is not trusted",
		"ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain (_ssl.c:1006)":                                    "The CA is not trusted",
		"ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for 'x'":                                           "The certificate is for another name",
		"tls: failed to verify certificate: x509: certificate is valid for localhost, not example.com":                                                                                            "The certificate is for another name",
		"tls: failed to verify certificate: x509: certificate signed by unknown authority":                                                                                                        "The CA is not trusted",
		"tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time":                                                                                      "The certificate has expired, or the clock is wrong",
		"40E7A1:error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:../ssl/record/rec_layer_s3.c:1600:SSL alert number 48":                                                         "The CA is not trusted",
		"SSL alert number 112":                                           "The server has no certificate for this name",
		"48":                                                             "The CA is not trusted",
		"alert 70":                                                       "The protocol versions do not overlap",
		"CRYPTO_ERROR 0x130":                                             "The CA is not trusted",
		"local error: tls: bad record MAC":                               "A record could not be decrypted",
		"SSL_ERROR_NO_CYPHER_OVERLAP":                                    "Nothing in common",
		"ERR_SSL_VERSION_OR_CIPHER_MISMATCH":                             "The protocol versions do not overlap",
		"SSL_ERROR_BAD_CERT_DOMAIN":                                      "The certificate is for another name",
		"ERR_TLS_CERT_ALTNAME_INVALID":                                   "The certificate is for another name",
		"remote error: tls: unrecognized name":                           "The server has no certificate for this name",
		"routines::wrong version number":                                 "The other side does not speak TLS here",
		"tls: client didn't provide a certificate":                       "A client certificate is required",
		"read ECONNRESET":                                                "The connection was closed during the handshake",
		"net/http: TLS handshake timeout":                                "The other side did not answer in time",
		"Received fatal alert: handshake_failure":                        "Nothing in common",
		"x509: certificate is not authorized to sign for this name":      "The certificate may not be used so",
		"curl: (82) error loading CRL file: /nonexistent":                "The client cannot read its revocation list",
		"verify error:num=66:EE certificate key too weak":                "The certificate is too weak",
		"verify error:num=26:unsupported or invalid certificate purpose": "The certificate may not be used so",
		"verify error:num=65:No matching DANE TLSA records":              "HSTS or pinning forbids to go on",
		"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Missing Authority Key Identifier (_ssl.c:1032)":                 "The client checks strictly",
		"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Basic Constraints of CA cert not marked critical (_ssl.c:1032)": "The client checks strictly",
		// Android and Java
		"java.security.cert.CertPathValidatorException: Trust anchor for certification path not found.":                                                "The CA is not trusted",
		"java.net.UnknownServiceException: CLEARTEXT communication to localhost not permitted by network security policy":                              "The app does not allow plain HTTP",
		"javax.net.ssl.SSLPeerUnverifiedException: Hostname 10.0.2.2 not verified: certificate: sha256/x":                                              "The certificate is for another name",
		"java.security.cert.CertificateException: No subject alternative names matching IP address 127.0.0.1 found":                                    "The certificate is for another name",
		"java.security.InvalidAlgorithmParameterException: the trustAnchors parameter must be non-empty":                                               "The client has no CAs to trust",
		"sun.security.validator.ValidatorException: PKIX path validation failed: java.security.cert.CertPathValidatorException: validity check failed": "The certificate has expired, or the clock is wrong",
		"Certificates do not conform to algorithm constraints":                                                                                         "The certificate is too weak",
		"javax.net.ssl.SSLException: Unsupported or unrecognized SSL message":                                                                          "The other side does not speak TLS here",
		// Apple
		"Error Domain=NSURLErrorDomain Code=-1202 \"The certificate for this server is invalid.\"": "The CA is not trusted",
		"NSURLErrorDomain error -1200": titleRejected,
		"Task finished with error [-1001] Error Domain=NSURLErrorDomain Code=-1001 \"The request timed out.\"": "The other side did not answer in time",
		"NSURLErrorDomain Code=-1003":              "The name does not resolve",
		"NSURLErrorDomain Code=-1004":              "Nothing listens there",
		"Error Domain=NSURLErrorDomain Code=-1022": "The app does not allow plain HTTP",
		"CFNetwork SSLHandshake failed (-9807)":    "The CA is not trusted",
		"CFNetwork SSLHandshake failed (-9806)":    titleClosed,
		"CFNetwork SSLHandshake failed (-9836)":    "The protocol versions do not overlap",
		"CFNetwork SSLHandshake failed (-9843)":    "The certificate is for another name",
		"boringssl_context_handle_fatal_alert(2072) [C1:1][0x1] write alert, level: fatal, description: unknown ca": "The CA is not trusted",
		"x509: “localhost” certificate is not trusted":                                                              "The CA is not trusted",
		// .NET and Windows
		"System.Net.Http.HttpRequestException: The SSL connection could not be established, see inner exception.":                                                                 titleRejected,
		"System.Security.Authentication.AuthenticationException: The remote certificate is invalid because of errors in the certificate chain: UntrustedRoot":                     "The CA is not trusted",
		"The remote certificate is invalid according to the validation procedure: RemoteCertificateNameMismatch":                                                                  "The certificate is for another name",
		"The remote certificate is invalid because of errors in the certificate chain: NotTimeValid":                                                                              "The certificate has expired, or the clock is wrong",
		"curl: (60) schannel: SEC_E_UNTRUSTED_ROOT (0x80090325) - The certificate chain was issued by an authority that is not trusted.":                                          "The CA is not trusted",
		"schannel: SNI or certificate check failed: SEC_E_WRONG_PRINCIPAL (0x80090322) - The target principal name is incorrect.":                                                 "The certificate is for another name",
		"schannel: next InitializeSecurityContext failed: CRYPT_E_NO_REVOCATION_CHECK (0x80092012) - The revocation function was unable to check revocation for the certificate.": "It could not be found out whether the certificate is revoked",
		"schannel: next InitializeSecurityContext failed: SEC_E_ILLEGAL_MESSAGE (0x80090326)":                                                                                     "A message did not parse",
		"schannel: next InitializeSecurityContext failed: SEC_E_INVALID_TOKEN (0x80090308) - The token supplied to the function is invalid":                                       "The other side does not speak TLS here",
		"schannel: SEC_E_CERT_EXPIRED (0x80090328)":                                                             "The certificate has expired, or the clock is wrong",
		"schannel: next InitializeSecurityContext failed: SEC_E_ALGORITHM_MISMATCH (0x80090331)":                "Nothing in common",
		"A fatal alert was received from the remote endpoint. The TLS protocol defined fatal alert code is 70.": "The protocol versions do not overlap",
		// wget, GnuTLS, git
		"ERROR: cannot verify localhost's certificate, issued by ‘CN=padlock local CA 1’:\n  Unable to locally verify the issuer's authority.": "The CA is not trusted",
		"ERROR: The certificate of ‘localhost’ is not trusted.\nERROR: The certificate of ‘localhost’ doesn't have a known issuer.":            "The CA is not trusted",
		"The certificate's owner does not match hostname ‘127.0.0.1’":                                                                          "The certificate is for another name",
		"fatal: unable to access 'https://localhost/': server certificate verification failed. CAfile: none CRLfile: none":                     titleRejected,
		"gnutls_handshake() failed: The TLS connection was non-properly terminated.":                                                           titleClosed,
		"*** Fatal error: A TLS fatal alert has been received.\n*** Received alert [112]: The server name sent was not recognized":             "The server has no certificate for this name",
		"- Status: The certificate is NOT trusted. The certificate issuer is unknown.":                                                         "The CA is not trusted",
		"GnuTLS: An unexpected TLS packet was received.":                                                                                       "The other side does not speak TLS here",
		// Go
		"x509: cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs":                            "The certificate is for another name",
		"x509: certificate relies on legacy Common Name field, use SANs instead":                                            "The certificate is for another name",
		"x509: certificate specifies an incompatible key usage":                                                             "The certificate may not be used so",
		"x509: a root or intermediate certificate is not authorized to sign for this name: DNS name \"x\" is not permitted": "The certificate may not be used so",
		"x509: too many intermediates for path length constraint":                                                           "The certificate may not be used so",
		"http: server gave HTTP response to HTTPS client":                                                                   "The other side does not speak TLS here",
		// QUIC
		"CRYPTO_ERROR 0x12a (remote): bad certificate":              titleRejected,
		"net::ERR_QUIC_PROTOCOL_ERROR":                              titleQUIC,
		"net::ERR_QUIC_PROTOCOL_ERROR.QUIC_TLS_CERTIFICATE_UNKNOWN": "The CA is not trusted",
		"timeout: no recent network activity":                       titleQUIC,
		// Others
		"invalid peer certificate: UnknownIssuer":                                     "The CA is not trusted",
		"received corrupt message of type InvalidContentType":                         "The other side does not speak TLS here",
		"verify error:num=62:hostname mismatch":                                       "The certificate is for another name",
		"verify error:num=3:unable to get certificate CRL":                            "It could not be found out whether the certificate is revoked",
		"psql: error: server does not support SSL, but SSL was required":              "The other side does not speak TLS here",
		"MOZILLA_PKIX_ERROR_CA_CERT_USED_AS_END_ENTITY":                               "The certificate may not be used so",
		"NET::ERR_CERT_VALIDITY_TOO_LONG":                                             "The certificate is valid for too long",
		"curl: (90) SSL: public key does not match pinned public key":                 "HSTS or pinning forbids to go on",
		"curl: (35) OpenSSL SSL_connect: Connection reset by peer in connection to x": titleClosed,
		"curl: (56) Received HTTP code 403 from proxy after CONNECT":                  "A proxy stands in the way",
	} {
		e, ok := Explain(text)
		if !ok || e.Title != title {
			t.Errorf("%q: %q by %q", text, e.Title, e.Matched)
		}
	}
	for _, text := range []string{"the cat sat on the mat", "listening on port 1202", "it took -1200 ms", "HTTP request failed with status 404", "SEC_E_SOMETHING_NEW", "segmentation fault"} {
		if e, ok := Explain(text); ok {
			t.Errorf("%q: %+v", text, e)
		}
	}
}

// Every alert that TLS defines is explained by number and by name.
func TestEveryAlertIsExplained(t *testing.T) {
	for number := range 256 {
		name := wire.AlertName(byte(number))
		if strings.HasPrefix(name, "alert_") || number == 21 || number == 30 || number == 41 || number == 60 || number == 111 {
			continue // not defined, or not used since SSL 3.0
		}
		if _, ok := Explain(name); !ok {
			t.Errorf("%s is not explained", name)
		}
	}
}

func FuzzExplain(f *testing.F) {
	f.Add("tls: bad record MAC")
	f.Fuzz(func(t *testing.T, text string) { Explain(text) })
}
