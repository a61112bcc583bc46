//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"padlock/internal/servicetest"
)

// Servers and scripts that write heads as they should not, in ways that harm nobody, are understood as other proxies understand them: PHP's
// with the status line that many scripts send, Python's and busybox's with the heads of CGI scripts, nginx's with a policy over several
// lines, Node's with a status that no list has. Each is the real one.
func TestServersThatWriteHeadsOddlyAreUnderstood(t *testing.T) {
	besides(t)
	files := t.TempDir()
	for _, dir := range []string{filepath.Dir(files), files} { // Python runs scripts as nobody
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\nprintf 'Content-Type: text/plain\\nX-Folded: one\\n  two\\nSet-Cookie: a=b\\n\\nsaid by CGI'\n"
	if err := os.MkdirAll(filepath.Join(files, "cgi-bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"cgi-bin/hello.sh": {script, 0o755},
		"router.php":       {"<?php header('HTTP/2.0 404 Not Found'); header('X-Seen: '.$_SERVER['QUERY_STRING']); echo 'said by PHP';", 0o644},
		"server.js": {`require("http").createServer((q, s) => { s.writeHead(999, "Request Denied"); s.end("said by Node"); })` +
			`.listen(0, "127.0.0.1", function () { console.log(this.address().port); });`, 0o644},
	} {
		if err := os.WriteFile(filepath.Join(files, name), []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	php, python, busybox, nginx := servicetest.FreePort(t), servicetest.FreePort(t), servicetest.FreePort(t), servicetest.FreePort(t)
	conf := write(t, "nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  server {
    listen 127.0.0.1:%d;
    add_header Content-Security-Policy "default-src 'self';
        img-src *" always;
    location / { return 404 "said by nginx"; }
  }
}
`, nginx))
	if err := os.Chmod(filepath.Dir(conf), 0o755); err != nil {
		t.Fatal(err)
	}
	launch(t, nil, need(t, "php"), "-n", "-S", local(php), filepath.Join(files, "router.php"))
	launch(t, nil, "/usr/bin/python3", "-c", "import os, sys; os.chdir(sys.argv[1]); sys.argv[1:] = ['--cgi', '--bind', '127.0.0.1', sys.argv[2]]; "+
		"import runpy; runpy.run_module('http.server', run_name='__main__')", files, strconv.Itoa(python))
	launch(t, nil, need(t, "busybox"), "httpd", "-f", "-p", local(busybox), "-h", files)
	launch(t, nil, need(t, "nginx"), "-p", filepath.Dir(conf), "-c", conf, "-e", "stderr")
	node := make(chan string, 1)
	launch(t, node, need(t, "node"), filepath.Join(files, "server.js"))
	var nodeAt string
	select {
	case port := <-node:
		nodeAt = "127.0.0.1:" + port
	case <-time.After(60 * time.Second):
		t.Fatal("node did not start")
	}

	backends := map[string]struct {
		address, path string
		want          []string
	}{
		"php":     {local(php), "/?a=b", []string{" 404", "x-seen: a=b", "said by PHP"}},
		"python":  {local(python), "/cgi-bin/hello.sh", []string{" 200", "x-folded: one two", "set-cookie: a=b", "said by CGI"}},
		"busybox": {local(busybox), "/cgi-bin/hello.sh", []string{" 200", "x-folded: one two", "set-cookie: a=b", "said by CGI"}},
		"nginx":   {local(nginx), "/", []string{" 404", "content-security-policy: default-src 'self'; img-src *", "said by nginx"}},
		"node":    {nodeAt, "/", []string{" 999", "said by Node"}},
	}
	args := []string{}
	for name, b := range backends {
		awaitPort(t, name, b.address)
		args = append(args, name+".localhost="+b.address)
	}
	p := start(t, args...)
	root := p.root(t)
	_, port, _ := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(p.url, "https://"), "/"))
	for name, b := range backends {
		for _, version := range []string{"--http1.1", "--http2"} {
			host := name + ".localhost"
			out, err := exec.Command(need(t, "curl"), "-si", version, "-m", "60", "--cacert", root, "--resolve", host+":"+port+":127.0.0.1",
				"https://"+host+":"+port+b.path).CombinedOutput()
			for _, part := range b.want {
				if err != nil || !strings.Contains(strings.ReplaceAll(string(out), "\r", ""), part) && !strings.Contains(strings.ToLower(string(out)), part) {
					t.Errorf("%s %s: no %q in %q, %v", name, version, part, out, err)
				}
			}
		}
	}
}

// awaitPort waits until something listens there.
func awaitPort(t *testing.T, name, address string) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", name, err)
		}
	}
}
