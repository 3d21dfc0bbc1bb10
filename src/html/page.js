(function () {
  var hash = location.hash, encoded = encodeURIComponent(hash)
  var again = document.querySelector('a[href=""]')
  var copy = document.getElementById("copy"), address = document.getElementById("address")
  if (again && hash) again.onclick = function () { location.reload(); return false }
  if (copy && address) {
    copy.hidden = false
    copy.onclick = function () {
      var range = document.createRange(), selection = getSelection()
      range.selectNodeContents(address)
      selection.removeAllRanges()
      selection.addRange(range)
      if (document.execCommand("copy")) copy.textContent = copy.getAttribute("data-done")
    }
  }
  if (hash.length < 2 || hash === "#wechat_redirect") return
  if (address && /[?&]return_to=[^&]+$/.test(location.search) && location.search.indexOf("%23") < 0) {
    location.replace(location.pathname + location.search + encoded)
    return
  }
  var links = document.querySelectorAll('a[href*="return_to="]')
  for (var i = 0; i < links.length; i++) {
    var link = links[i].getAttribute("href")
    if (link.indexOf("%23") < 0) links[i].setAttribute("href", link + encoded)
  }
})()
