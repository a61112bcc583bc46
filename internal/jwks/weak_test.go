package jwks_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// jwksWeak is a key of 1024 bits, which Go makes no more.
func jwksWeak() (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(weakKey))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	weak, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is no RSA key")
	}
	return weak, nil
}

const weakKey = `-----BEGIN PRIVATE KEY-----
MIICdQIBADANBgkqhkiG9w0BAQEFAASCAl8wggJbAgEAAoGBAK/mNkNBSso3rWzJ
SLWbAGG7uhPxKHFYjt9MiUzJwYVHfcf1OcNmP+nX/nrlbkb7cQbl4rCwYEYBJR0S
mcGNqgl9wHC2Trn8Lj5jQ0x/yjF7R5vzn7AScvYZu6vw+irjPOt8ZAQh/JG/cqt8
KUNYdJluurgnlRbHi7qFXDq/b1GNAgMBAAECgYBUCwmoLr0eS2X4UWAFLU8MY1aw
CoyJQ4fYF0iOwONO2+60KG3195fYEhSMAa0kCyVg51vdkhgdupRSBL4kJZy06x6G
Vt1m+uPZHD7mS1fIDxJRFJyh6Be7wAl8M4OPkCJp7xmlrF/rbvQhxozZ86SSuKrK
pbgllZ60WZfI/QoVHQJBAOCPmsohf0PxFTo2YT++QehbF8K2WDAu3eGjG0KOHwt0
YXhlk57Q3KuqMI8sKqi1biNMZmyxyyBsccAh99ljoq8CQQDIhotEyxEztxUQbPwr
6OJUrjvpcYbe7NatiQzXysiV3UWMsz4xH+MZKoogamxsnxf1JG89TjAchTE9JR1b
qo6DAkBQZFi/4DoVcqtsyacLEOu7aVEaTflIVp7sdl399685hJKYbZTpmFBHzIfR
2bfz6e/iBynr48KaevhGFmMKmlbVAkAwvQryoIzAzhoPkP3FymfgfyzOs6o9WsFf
EnWNqZsRWePCq/pMxFxVTJKgCF3sFMsk6UMkWnG1LOZn3zKAijbzAkBOyMtrAeo1
x21d9OzGniq7bg2aSbmjrxzcslVyskFf4SJLlAjBupe1qRJj7ELhZGNWWBobmgmE
W9gQG0/f+xq5
-----END PRIVATE KEY-----
`
