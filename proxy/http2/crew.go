package http2

// job is what a goroutine does for a connection.
type job interface{ do() }

// crew are goroutines that have done a job for a connection and wait for another. A new goroutine would have to grow
// its stack first, call by call, which costs more than all of HTTP/2 does for a request. They hold nothing of the job
// before. The connection's lock guards the crew.
type crew struct {
	busy    bool // jobs are sure to come: whoever has done one stays
	resting []chan job
}

// mostResting goroutines wait at once; others end with their job.
const mostResting = 16

// hand has a job done. It is called with the lock held.
func (c *connection) hand(j job) {
	last := len(c.crew.resting) - 1
	if last < 0 {
		go c.work(j)
		return
	}

	// The one that worked last has the warmest stack.
	next := c.crew.resting[last]
	c.crew.resting = c.crew.resting[:last]
	next <- j // which has room for it
}

// work does jobs until there is no reason to wait for another.
func (c *connection) work(j job) {
	var next chan job
	for j != nil {
		j.do()
		j = nil

		c.mu.Lock()
		stays := c.crew.busy && len(c.crew.resting) < mostResting
		if stays {
			if next == nil {
				next = make(chan job, 1)
			}
			c.crew.resting = append(c.crew.resting, next)
		}
		c.mu.Unlock()

		if stays {
			j = <-next
		}
	}
}

// dismiss ends those that wait. It is called with the lock held.
func (c *connection) dismiss() {
	for _, next := range c.crew.resting {
		next <- nil
	}
	c.crew = crew{}
}
