async ([stream, seconds, width, height, fps, view, numbers]) => {
    const begun = performance.now();
    const small = new OffscreenCanvas(160, 120).getContext("2d", {willReadFrequently: true});
    const shown = new OffscreenCanvas(width, height).getContext("2d");
    const numberIn = (video) => {
        small.drawImage(video, 0, 0, 160, 120);
        const {data} = small.getImageData(0, 27, 160, 1);
        let word = 0;
        for (let bit = 0; bit < 8; bit++) {
            const light = data[4 * Math.round((bit + 1.5) * 16)];
            if (light > 90 && light < 165) return null;
            word |= (light > 128) << bit;
        }
        let ones = 0;
        for (let bit = 0; bit < 8; bit++) ones += word >> bit & 1;
        return ones % 2 ? null : word >> 1;
    };
    const post = async (path, peer) => {
        await peer.setLocalDescription();
        if (peer.iceGatheringState !== "complete") await new Promise((done) => {
            peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && done());
        });
        const response = await fetch(path, {
            method: "POST", headers: {"Content-Type": "application/sdp"}, body: peer.localDescription.sdp,
        });
        if (response.status !== 201) throw new Error(path + ": " + response.status + " " + await response.text());
        await peer.setRemoteDescription({type: "answer", sdp: await response.text()});
    };
    const show = (source) => {
        const video = document.createElement("video");
        video.muted = video.autoplay = video.playsInline = true;
        video.srcObject = source;
        document.body.append(video);
        return video;
    };
    const camera = await navigator.mediaDevices.getUserMedia({video: {width, height, frameRate: fps}});
    const captured = Array.from({length: numbers}, () => []);
    const local = show(camera);
    const see = (now, about) => {
        const number = numberIn(local);
        if (number !== null) captured[number].push(about.captureTime ?? now);
        local.requestVideoFrameCallback(see);
    };
    // The numbers come again and again, and the preview may show one later than it comes back, or not at all.
    const capturedBefore = (number, at) =>
        captured[number].findLast((time) => time <= at && time > at - 1000 * numbers / fps / 2);
    local.requestVideoFrameCallback(see);

    const publisher = new RTCPeerConnection({iceServers: []});
    publisher.addTransceiver(camera.getVideoTracks()[0], {direction: "sendonly", streams: [camera]});
    const watcher = new RTCPeerConnection({iceServers: []});
    watcher.addTransceiver("video", {direction: "recvonly"});
    const told = new Map();
    const drawn = [];
    watcher.createDataChannel("detections", {ordered: false, maxRetransmits: 0}).onmessage = (message) => {
        const one = JSON.parse(message.data);
        told.set(one.rtp, one);
        if (told.size > 256) told.delete(told.keys().next().value);
    };
    let firstBox = null;
    let unmatched = 0;
    let wrong = 0;
    let later = 0;
    let exact = false;
    watcher.ontrack = ({track}) => {
        const remote = show(new MediaStream([track]));
        const draw = (now, about) => {
            remote.requestVideoFrameCallback(draw);
            const frame = new VideoFrame(remote);  // by now it may be a later one than the callback is about
            const rtp = frame.metadata?.().rtpTimestamp;
            if (rtp !== undefined && rtp !== about.rtpTimestamp) later += 1;
            exact ||= rtp !== undefined;
            const number = numberIn(frame);
            const one = told.get(rtp ?? about.rtpTimestamp);
            shown.drawImage(frame, 0, 0);
            frame.close();
            if (one === undefined) { unmatched += 1; return; }
            for (const {box: [left, top, right, bottom]} of one.detections) {
                shown.strokeRect(left, top, right - left, bottom - top);
            }
            const at = performance.now();
            const box = one.detections[0]?.box[0];
            if (number === null || box === undefined) return;
            if (firstBox === null) firstBox = at - begun;
            if (box !== number) wrong += 1;
            drawn.push({number, at, now, receiveTime: about.receiveTime, latency: one.latency_ms});
        };
        remote.requestVideoFrameCallback(draw);
    };
    await Promise.all([post(`/whip/${stream}`, publisher), post(`/whep/${stream}?view=${view}`, watcher)]);
    await new Promise((done) => setTimeout(done, seconds * 1000));
    const frames = [];
    for (const {number, at, now, receiveTime, latency} of drawn) {
        const from = capturedBefore(number, at);
        if (from === undefined) continue;
        const known = receiveTime === undefined ? {} : {received: receiveTime - from, waited: now - receiveTime};
        frames.push({glass: at - from, latency, drawn: at - now, ...known});
    }
    const parts = {};
    for (const peer of [publisher, watcher]) {
        for (const one of (await peer.getStats()).values()) {
            if (one.type === "codec") parts[peer === publisher ? "sent" : "watched"] = one.mimeType;
            if (one.type === "outbound-rtp") parts.encode = 1000 * one.totalEncodeTime / one.framesEncoded;
            if (one.type === "inbound-rtp") {
                parts.decode = 1000 * one.totalDecodeTime / one.framesDecoded;
                parts.jitterBuffer = 1000 * one.jitterBufferDelay / one.jitterBufferEmittedCount;
            }
        }
    }
    publisher.close();
    watcher.close();
    return {later, exact, firstBox, unmatched, wrong, frames, parts};
}
