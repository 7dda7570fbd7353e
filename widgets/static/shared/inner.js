// A pane that was made a moment ago may not be known to the page yet.
async function arrived(host, reference, el, signal) {
  for (let tries = 0; ; tries++) {
    try {
      const widget = await host.getWidget(reference);
      return await widget.render({ el, signal });
    } catch (error) {
      if (tries >= 40) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
