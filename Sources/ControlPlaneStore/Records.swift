package import BerthModel
package import ControlPlaneCore

/// A person or program with an account.
package struct UserRecord: Hashable, Sendable {
    package var id: String
    package var name: String
    package var email: String
    package var tier: Tier
    package var isAdmin: Bool

    package init(id: String, name: String, email: String = "", tier: Tier, isAdmin: Bool) {
        self.id = id
        self.name = name
        self.email = email
        self.tier = tier
        self.isAdmin = isAdmin
    }
}

/// A token, without its text, which is stored nowhere.
package struct TokenRecord: Hashable, Sendable {
    package var id: String
    package var userID: String
    package var name: String
    /// First characters of the text, for people to tell tokens apart.
    package var prefix: String
    package var scopes: Set<Scope>
    /// Set on an agent's own token, which speaks for this agent alone.
    package var agent: AgentID?
    /// Seconds since 1970 UTC; so are all times below.
    package var createdAt: Double
    package var expiresAt: Double?
    package var lastUsedAt: Double?

    package init(
        id: String, userID: String, name: String, prefix: String, scopes: Set<Scope>, agent: AgentID? = nil,
        createdAt: Double, expiresAt: Double? = nil, lastUsedAt: Double? = nil
    ) {
        self.id = id
        self.userID = userID
        self.name = name
        self.prefix = prefix
        self.scopes = scopes
        self.agent = agent
        self.createdAt = createdAt
        self.expiresAt = expiresAt
        self.lastUsedAt = lastUsedAt
    }
}

/// One change that somebody asked for.
package struct AuditRecord: Hashable, Sendable {
    /// Ascending; 0 where it is not stored yet.
    package var number: Int
    package var at: Double
    package var userID: String
    /// As it was then.
    package var userName: String
    package var tokenID: String
    /// Of the client, as far as trusted proxies tell it.
    package var address: String
    /// Method and route.
    package var action: String
    /// The id in the route.
    package var object: String?
    /// Of the answer.
    package var status: Int

    package init(
        number: Int = 0, at: Double, userID: String, userName: String, tokenID: String, address: String,
        action: String, object: String?, status: Int
    ) {
        self.number = number
        self.at = at
        self.userID = userID
        self.userName = userName
        self.tokenID = tokenID
        self.address = address
        self.action = action
        self.object = object
        self.status = status
    }
}

/// A host as it was registered and last described itself.
package struct AgentRecord: Hashable, Sendable {
    package var id: AgentID
    package var userID: String
    package var name: String
    package var details: String
    package var tags: [String]
    /// Containers of every user may run on it; registered by an admin.
    package var isShared: Bool
    package var host: HostDescription
    package var revision: Revision
    package var epoch: Int
    package var createdAt: Double
    package var lastSeenAt: Double
    /// Since when two processes were seen to use this identity; nil where that is not so.
    package var frozenAt: Double?
    /// Stopped and deleted only after a code of its owner's second factor.
    package var isLocked: Bool

    package init(
        id: AgentID, userID: String, name: String, details: String, tags: [String], isShared: Bool,
        host: HostDescription, revision: Revision = .none, epoch: Int = 0, createdAt: Double, lastSeenAt: Double,
        frozenAt: Double? = nil, isLocked: Bool = false
    ) {
        self.id = id
        self.userID = userID
        self.name = name
        self.details = details
        self.tags = tags
        self.isShared = isShared
        self.host = host
        self.revision = revision
        self.epoch = epoch
        self.createdAt = createdAt
        self.lastSeenAt = lastSeenAt
        self.frozenAt = frozenAt
        self.isLocked = isLocked
    }
}

/// A container of the API: what is wanted of it, and what its agent said last.
package struct ContainerRecord: Hashable, Sendable {
    package var id: WorkloadID
    package var userID: String
    /// Nil while no host fits.
    package var agent: AgentID?
    /// What the listing shows as the image.
    package var image: String
    package var role: String
    package var generation: Generation
    package var wish: DesiredWorkload.Wish
    package var spec: WorkloadSpec
    package var observed: WorkloadStatus?
    package var everRan: Bool
    /// Why it has no host, where it has none.
    package var placement: String?
    package var createdAt: Double
    package var lastUsedAt: Double
    package var deletedAt: Double?
    /// Its volumes are to go, or have gone: it cannot be restored.
    package var isPurged: Bool
    /// Changed only after a code of its owner's second factor.
    package var isLocked: Bool

    package init(
        id: WorkloadID, userID: String, agent: AgentID? = nil, image: String, role: String,
        generation: Generation = 1, wish: DesiredWorkload.Wish = .running, spec: WorkloadSpec,
        observed: WorkloadStatus? = nil, everRan: Bool = false, placement: String? = nil, createdAt: Double,
        lastUsedAt: Double, deletedAt: Double? = nil, isPurged: Bool = false, isLocked: Bool = false
    ) {
        self.id = id
        self.userID = userID
        self.agent = agent
        self.image = image
        self.role = role
        self.generation = generation
        self.wish = wish
        self.spec = spec
        self.observed = observed
        self.everRan = everRan
        self.placement = placement
        self.createdAt = createdAt
        self.lastUsedAt = lastUsedAt
        self.deletedAt = deletedAt
        self.isPurged = isPurged
        self.isLocked = isLocked
    }

    package var desired: DesiredWorkload {
        var wanted = spec
        if wish == .removed {
            // A tombstone goes to the host as long as it is not confirmed, and needs none of this.
            wanted.environment = [:]
            wanted.labels = [:]
            wanted.command = nil
            wanted.setUp = nil
        }
        return DesiredWorkload(id: id, generation: generation, wish: wish, spec: wanted, purgesVolumes: isPurged)
    }

    package var status: PresentedStatus { .of(wish: wish, observed: observed, everRan: everRan) }

    /// It serves, whether or not it is still set up.
    package var isUp: Bool { status == .running || observed?.phase == .configuring }

    /// The Docker id once there is one, as documented.
    package var presentedID: String { observed?.engineContainer?.text ?? id.text }
}
