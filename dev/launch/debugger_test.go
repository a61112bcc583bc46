//go:build linux

package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestDebuggersPortsAreReadFromCommands(t *testing.T) {
	for command, want := range map[string][]uint16{
		"node --inspect=7719 server.js":                 {7719},
		"node --inspect-brk=0.0.0.0:7719 server.js":     {7719},
		"deno run --inspect-wait=[::1]:7719 main.ts":    {7719},
		"bun --inspect=localhost:7719/prefix server.ts": {7719},
		"node --inspect server.js --port 3000":          nil,
		"node server.js --port=3000":                    nil,
		"java -agentlib:jdwp=transport=dt_socket,server=y,suspend=n,address=*:5005 -jar shop.jar --server.port=3000": {5005},
		"java -Xrunjdwp:transport=dt_socket,address=5005,server=y -jar shop.jar":                                     {5005},
		"python3 -m debugpy --listen 127.0.0.1:5679 app.py":                                                          {5679},
		"python3 -m debugpy --listen 5679 -m flask run -p 3000":                                                      {5679},
		"dlv debug --headless --listen=:2345 . -- --port 3000":                                                       {2345},
		"dlv exec -l 127.0.0.1:2345 shop":                                                                            {2345},
		"rdbg --open --port 7000 -c -- rails server -p 3000":                                                         {7000},
		"nginx --listen 3000": nil,
	} {
		if got := debugPorts(command); !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v", command, got, want)
		}
	}
}

// A debugger's port is never the app's: whether padlock sees the flag itself, or a script has it, or a variable.
func TestAnAppThatListensForItsDebuggerAloneIsWaitedFor(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	given, err := FreePort(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := FreePort(func(port int) bool { return port == given })
	if err != nil {
		t.Fatal(err)
	}
	flag := fmt.Sprintf("--inspect=127.0.0.1:%d", other)
	script := filepath.Join(t.TempDir(), "dev.sh")
	if err := os.WriteFile(script, []byte(own+" "+flag+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	env := Environment(os.Environ(), fmt.Sprintf("LAUNCH_TEST_APP=127.0.0.1:%d", other))
	for what, c := range map[string]Command{
		"a flag":             {Args: []string{own, flag}, Env: env},
		"a flag in a script": {Args: []string{"sh", script}, Env: env},
		"a variable":         {Args: []string{own}, Env: Environment(env, "NODE_OPTIONS="+flag)},
	} {
		out := &safeBuffer{}
		c.Port, c.Stdout = given, out
		p := start(t, c)
		await(t, what+" listens", func() bool { return strings.Contains(out.String(), "listening") })
		if at, ok := p.Listening(); ok {
			t.Errorf("%s: the debugger's port is taken for the app's: %s", what, at)
		}
		p.Stop(t.Context(), os.Kill)
		p.Wait()
	}
}
