package daemon

import (
	"cmp"
	"fmt"

	"padlock/config"
	"padlock/handshake"
	"padlock/internal/regular"
	"padlock/internal/terminal"
)

// handshakeLog is what records handshakes, and where they are written.
type handshakeLog struct {
	recorder *handshake.Recorder
	sink     *handshake.NoiseFilter // writes to lines
	lines    *lineQueue             // writes to output
	output   *logOutput

	closeCapture func()
}

// newHandshakeLog is nil when handshakes are off.
func (d *daemon) newHandshakeLog(cfg *config.Config) (*handshakeLog, error) {
	c := cfg.Handshakes
	if c.Show == "off" {
		return nil, nil
	}

	output, err := d.newOutput(c.Output, c.Rotate, false)
	if err != nil {
		return nil, fileError("handshakes.output", err)
	}

	// Opened after the output, and closed before it, so that an error leaves nothing open.
	capture, closeCapture, err := d.openCapture(c)
	if err != nil {
		output.close()
		return nil, err
	}

	// The sink sums up what the lines lose.
	h := &handshakeLog{lines: newLineQueue(output, nil), output: output, closeCapture: closeCapture}
	sink, summary := h.format(c)
	h.sink = handshake.NewNoiseFilter(sink, handshake.NoiseOptions{
		Sample: c.Sample, Summary: summary, Dropped: func() uint64 { return h.recorder.Dropped() },
	})

	h.recorder = handshake.NewRecorder(handshake.Options{
		Log: d.log, Sinks: append(d.observers.sinks(), h.sink), Capture: capture, Packets: d.observers.packets,
		Dropped: func() uint64 { return h.lines.Dropped() + output.Dropped() }, Privacy: privacy(cfg),
	})
	return h, nil
}

// format writes handshakes, and summaries of those that are left out, to the lines.
func (h *handshakeLog) format(c config.Handshakes) (sink handshake.Sink, summary func([]handshake.HeldBack)) {
	summary = handshake.SummaryText(h.lines)
	switch c.Format {
	case "line":
		sink = handshake.NewLine(h.lines)
	case "json":
		sink, summary = handshake.NewJSON(h.lines), handshake.SummaryJSON(h.lines)
	default:
		sink = handshake.NewStory(h.lines, terminal.Story(h.output.stream))
	}

	if c.Show == "failures" {
		sink = handshake.Failures(sink)
	}
	return sink, summary
}

// close has what was recorded written, as long as somebody takes it.
func (h *handshakeLog) close(d *daemon) {
	last, cancel := d.ending.within(handshakesGrace)
	defer cancel()
	before := h.recorder.Dropped()
	// In the order in which records travel: the recorder empties into the sink, and the sink into the lines.
	recorded := d.ending.await(handshakesGrace, func() { h.recorder.Close(); h.sink.Close(); h.closeCapture() })
	written := h.lines.close(last)
	if !recorded || !written || !d.ending.await(handshakesGrace, h.output.close) {
		d.log.Warn("handshakes are not told: what reads them takes no more", "output", cmp.Or(d.cfg.Handshakes.Output, "stderr"), "count", h.recorder.Dropped()-before)
	}
}

const captureLimit = 256 << 20

// openCapture is nil unless it was asked for.
func (d *daemon) openCapture(c config.Handshakes) (*handshake.Capture, func(), error) {
	if c.Capture == "" {
		return nil, func() {}, nil
	}
	f := &captureFile{name: c.Capture, to: handshake.NewCapture(captureLimit, d.log)}
	switch err := f.reopen(); {
	case regular.Unwritable(err):
		d.log.Warn("handshakes are not captured, as the file cannot be written; padlock goes on without", "error", err, "remedy", "free some space there, or make it writable, and send SIGUSR1")
	case err != nil:
		return nil, nil, fileError("handshakes.capture", fmt.Errorf("opening the capture: %w", err))
	}
	d.logFiles.add(f)
	return f.to, f.close, nil
}
