// The contrast of every text with what is behind it, whatever notation the colours have; a plot is on its card.
() => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
  const over = (color, ground) => {
    canvas.fillStyle = `rgb(${ground})`; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const ground = node => {
    const above = node.parentElement ? ground(node.parentElement) : [255, 255, 255];
    return over(getComputedStyle(node).backgroundColor, above);
  };
  const texts = [...document.querySelectorAll('body *')].filter(node =>
    [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim()) && node.getClientRects().length);
  const found = texts.map(node => {
    const behind = ground(node), style = getComputedStyle(node);
    const color = node.namespaceURI.endsWith('svg') ? style.fill : style.color;
    return [contrast(over(color, behind), behind), node.textContent.trim().slice(0, 40)];
  });
  const card = ground(document.querySelector('section:not(.verdict)'));
  const named = name => over(getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(), card);
  const graphics = ['value', 'second', 'look', 'bad', 'hidden'].map(name => [contrast(named(name), card), name]);
  graphics.push([contrast(named('value'), named('second')), 'value on second']);
  return {texts: found, graphics};
}
