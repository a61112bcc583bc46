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
		"SSL alert number 112":                                      "The server has no certificate for this name",
		"48":                                                        "The CA is not trusted",
		"alert 70":                                                  "The protocol versions do not overlap",
		"CRYPTO_ERROR 0x130":                                        "The CA is not trusted",
		"local error: tls: bad record MAC":                          "A record could not be decrypted",
		"SSL_ERROR_NO_CYPHER_OVERLAP":                               "Nothing in common",
		"ERR_SSL_VERSION_OR_CIPHER_MISMATCH":                        "The protocol versions do not overlap",
		"SSL_ERROR_BAD_CERT_DOMAIN":                                 "The certificate is for another name",
		"ERR_TLS_CERT_ALTNAME_INVALID":                              "The certificate is for another name",
		"remote error: tls: unrecognized name":                      "The server has no certificate for this name",
		"routines::wrong version number":                            "The other side does not speak TLS here",
		"tls: client didn't provide a certificate":                  "A client certificate is required",
		"read ECONNRESET":                                           "The connection was closed during the handshake",
		"net/http: TLS handshake timeout":                           "The other side did not answer in time",
		"Received fatal alert: handshake_failure":                   "Nothing in common",
		"x509: certificate is not authorized to sign for this name": "The certificate may not be used so",
	} {
		e, ok := Explain(text)
		if !ok || e.Title != title {
			t.Errorf("%q: %q by %q", text, e.Title, e.Matched)
		}
	}
	if e, ok := Explain("the cat sat on the mat"); ok {
		t.Errorf("%+v", e)
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
