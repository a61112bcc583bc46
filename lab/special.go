package lab

// page is the endpoint of the lab's own page, and unknown that of names that nobody knows.
var (
	page    = &Endpoint{Name: "page", Host: Domain, Group: Controls, Expect: MustAccept}
	unknown = &Endpoint{Name: "unknown", Host: "unknown." + Domain, Group: Controls, Expect: MustAccept, Wrong: "Nobody knows this name."}
)
