// Of every text that is seen: "text ratio" where it stands out from the ground below it by less than 4.5 to 1
// (WCAG 2, success criterion 1.4.3).
(() => {
  const part = value => { const share = value / 255; return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4; };
  const light = ([red, green, blue]) => 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
  const colour = text => text.match(/[\d.]+/g).map(Number);
  const ground = one => {
    for (; one; one = one.parentElement) {
      const found = colour(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement, text = texts.currentNode.data.trim();
    if (!text || !one.checkVisibility() || one.closest("script, style, noscript, .aside")) continue;
    const [dim, bright] = [light(colour(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => a - b);
    const ratio = (bright + 0.05) / (dim + 0.05);
    if (ratio < 4.5) poor.push(`${text.slice(0, 40)} ${ratio.toFixed(2)}`);
  }
  return poor;
})()
