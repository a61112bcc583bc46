package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"strings"
	"sync"
	"text/template"

	"padlock/hostinfo"
)

// profileText is a configuration profile with a root certificate (Apple Platform Deployment, "Certificates payload
// settings"), not signed.
const profileText = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadCertificateFileName</key>
			<string>padlock-ca.crt</string>
			<key>PayloadContent</key>
			<data>{{.DER}}</data>
			<key>PayloadDescription</key>
			<string>SHA-256 {{.Root.Fingerprint}}</string>
			<key>PayloadDisplayName</key>
			<string>{{xml .Root.Name}}</string>
			<key>PayloadIdentifier</key>
			<string>padlock.ca.{{.Short}}.root</string>
			<key>PayloadType</key>
			<string>com.apple.security.root</string>
			<key>PayloadUUID</key>
			<string>{{.RootUUID}}</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
		</dict>
	</array>
	<key>PayloadDescription</key>
	<string>Browsers on this device accept the certificates of {{xml .Root.Name}}, which it can sign for local names and private addresses only. Compare its SHA-256 fingerprint with the one that padlock prints.</string>
	<key>PayloadDisplayName</key>
	<string>{{xml .Root.Name}}</string>
	<key>PayloadIdentifier</key>
	<string>padlock.ca.{{.Short}}</string>
	<key>PayloadRemovalDisallowed</key>
	<false/>
	<key>PayloadType</key>
	<string>Configuration</string>
	<key>PayloadUUID</key>
	<string>{{.UUID}}</string>
	<key>PayloadVersion</key>
	<integer>1</integer>
</dict>
</plist>
`

var profileTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("profile").Funcs(template.FuncMap{"xml": escapeXML}).Parse(profileText))
})

// newProfile has the same identifiers each time, so that a device that gets it again replaces what it has.
func newProfile(root *hostinfo.Root) []byte {
	var b bytes.Buffer
	_ = profileTemplate().Execute(&b, map[string]any{ // to memory, by constants
		"Root": root, "DER": base64.StdEncoding.EncodeToString(root.Certificate.Raw),
		"Short": strings.ToLower(strings.ReplaceAll(root.Fingerprint, ":", ""))[:16],
		"UUID":  stableUUID(root, "profile"), "RootUUID": stableUUID(root, "root"),
	})
	return b.Bytes()
}

// stableUUID is derived from the fingerprint (version 8, RFC 9562 section 5.8).
func stableUUID(root *hostinfo.Root, of string) string {
	sum := sha256.Sum256([]byte("padlock " + of + " " + root.Fingerprint))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]))
}

func escapeXML(s string) (string, error) {
	var b bytes.Buffer
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}
