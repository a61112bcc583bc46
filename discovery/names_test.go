package discovery

import (
	"encoding/json"
	"strings"
	"testing"
)

// Why a container's name leads nowhere is told from what the engine knows of both sides.
func TestWhyANameLeadsNowhere(t *testing.T) {
	inside := &place{name: "padlock", networks: map[string]string{"1": "web"}}
	for _, c := range []struct {
		what, container string
		from            *place
		want            string
	}{
		{"it does not run", `{"Names": ["/shop-app-1"], "State": "exited"}`, inside, "docker start shop-app-1"},
		{"another network", `{"Names": ["/shop-app-1"], "State": "running", "NetworkSettings": {"Networks": {"shop_default": {"NetworkID": "2"}}}}`, inside, "docker network connect shop_default padlock"},
		{"the default network", `{"Names": ["/shop-app-1"], "State": "running", "NetworkSettings": {"Networks": {"bridge": {"NetworkID": "1"}}}}`, inside, "docker network create web"},
		{"padlock beside the engine", `{"Names": ["/shop-app-1"], "State": "running", "NetworkSettings": {"Networks": {"shop_default": {"NetworkID": "2"}}}}`, &place{}, "publish its port"},
	} {
		var container called
		if err := json.Unmarshal([]byte(c.container), &container); err != nil {
			t.Fatal(err)
		}
		if got := c.from.unreached(&container, container.all()[0], "app"); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q does not have %q", c.what, got, c.want)
		}
	}
}

func TestAContainerIsKnownByAllItsNames(t *testing.T) {
	var container called
	err := json.Unmarshal([]byte(`{"Names": ["/shop-app-1", "/other/link"], "Labels": {"com.docker.compose.service": "app"},
		"NetworkSettings": {"Networks": {"shop_default": {"Aliases": ["front"], "DNSNames": ["shop-app-1", "0a4b"]}, "none": null}}}`), &container)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(container.all(), " "); got != "shop-app-1 app front shop-app-1 0a4b" {
		t.Error(got)
	}
}
