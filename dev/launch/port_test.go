package launch

import (
	"net"
	"slices"
	"strings"
	"testing"
)

func TestFrameworksThatIgnorePORTGetTheirFlags(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"package.json": `{"scripts": {"dev": "vite", "both": "vite & tsc", "plain": "node server.js", "start": "next start", "own": "vite --port 3000"}}`})
	for _, c := range []struct{ command, want string }{
		{"node server.js", "node server.js"},
		{"node server.js {port} {host} {url}", "node server.js 4321 127.0.0.1 https://shop.localhost"},
		{"vite", "vite --port 4321 --strictPort --host 127.0.0.1"},
		{"npx vite", "npx vite --port 4321 --strictPort --host 127.0.0.1"},
		{"./node_modules/.bin/vite", "./node_modules/.bin/vite --port 4321 --strictPort --host 127.0.0.1"},
		{"vite --port 3000", "vite --port 3000"},
		{"vite --port=3000", "vite --port=3000"},
		{"vite build", "vite build"},
		{"next dev -p 3000", "next dev -p 3000"},
		{"next dev", "next dev --port 4321 --hostname 127.0.0.1"},
		{"npm run dev", "npm run dev -- --port 4321 --strictPort --host 127.0.0.1"},
		{"npm run dev -- --open", "npm run dev -- --open --port 4321 --strictPort --host 127.0.0.1"},
		{"npm run both", "npm run both"},
		{"npm run plain", "npm run plain"},
		{"npm run own", "npm run own"},
		{"npm run missing", "npm run missing"},
		{"npm start", "npm start -- --port 4321 --hostname 127.0.0.1"},
		{"pnpm dev", "pnpm dev --port 4321 --strictPort --host 127.0.0.1"},
		{"yarn run dev", "yarn run dev --port 4321 --strictPort --host 127.0.0.1"},
		{"npm install", "npm install"},
		{"bin/rails server", "bin/rails server --port 4321 --binding 127.0.0.1"},
		{"bundle exec rails s", "bundle exec rails s --port 4321 --binding 127.0.0.1"},
		{"python3 manage.py runserver", "python3 manage.py runserver 127.0.0.1:4321"},
		{"python manage.py runserver 8001", "python manage.py runserver 8001"},
		{"python manage.py runserver 0.0.0.0:8001", "python manage.py runserver 0.0.0.0:8001"},
		{"python manage.py migrate", "python manage.py migrate"},
		{"flask run", "flask run --port 4321 --host 127.0.0.1"},
		{"flask --app hello run", "flask --app hello run --port 4321 --host 127.0.0.1"},
		{"uvicorn main:app --reload", "uvicorn main:app --reload --port 4321 --host 127.0.0.1"},
		{"python3 -m http.server", "python3 -m http.server 4321 --bind 127.0.0.1"},
		{"python3 -m http.server 8000", "python3 -m http.server 8000"},
		{"hugo server", "hugo server --port 4321 --bind 127.0.0.1 --appendPort=false --baseURL https://shop.localhost --liveReloadPort 443"},
		{"php artisan serve", "php artisan serve --port 4321 --host 127.0.0.1"},
		{"php -S 127.0.0.1:{port}", "php -S 127.0.0.1:4321"},
		{"./gradlew bootRun", "./gradlew bootRun --args=--server.port=4321"},
		{"mvn spring-boot:run", "mvn spring-boot:run -Dspring-boot.run.arguments=--server.port=4321"},
	} {
		args := strings.Fields(c.command)
		before := slices.Clone(args)
		if got := strings.Join(WithPort(args, dir, "127.0.0.1", 4321, "https://shop.localhost"), " "); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.command, got, c.want)
		}
		if !slices.Equal(args, before) {
			t.Errorf("%s: the caller's words have changed: %q", c.command, args)
		}
	}
}

// A line for the shell gets flags as well, as far as it is no more than words.
func TestLinesOfAFileGetTheFlags(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"package.json": `{"scripts": {"dev": "vite"}}`})
	for line, want := range map[string]string{
		"python3 manage.py runserver":       "python3 manage.py runserver 127.0.0.1:4321",
		"npm run dev":                       "npm run dev -- --port 4321 --strictPort --host 127.0.0.1",
		"node server.js --port {port}":      "node server.js --port 4321",
		"cd web && vite":                    "cd web && vite",
		"php -S 127.0.0.1:$PORT":            "php -S 127.0.0.1:$PORT",
		"vite --base '/a b/' --port {port}": "vite --base '/a b/' --port 4321",
	} {
		if got := WithPort(shell(line), dir, "127.0.0.1", 4321, "https://shop.localhost"); !slices.Equal(got, shell(want)) {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func TestAFreePortIsOneThatNobodyHas(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if free(l.Addr().(*net.TCPAddr).Port) {
		t.Error("a port on which somebody listens is free")
	}
	seen := map[int]bool{}
	for range 50 {
		port, err := FreePort(func(p int) bool { return seen[p] })
		if err != nil || port < 4000 || port > 4999 || seen[port] {
			t.Fatal(port, err)
		}
		seen[port] = true
	}
	if _, err := FreePort(func(int) bool { return true }); err == nil {
		t.Error("a port is free where all are used")
	}
}
