#!/bin/sh
# The role devops: the Docker client, kubectl, terraform and Ansible.
# Docker client and ansible-core are the distribution's; kubectl comes from dl.k8s.io (checked against its .sha256),
# terraform from releases.hashicorp.com (checked against SHA256SUMS), both into /usr/local/bin.
# Debian 12 and Ubuntu 24.04 have no package with the client alone: docker.io brings an Engine that is not started.
#   BERTH_KUBECTL_VERSION  BERTH_TERRAFORM_VERSION
#   BERTH_ANSIBLE_PACKAGE  "ansible" for the large collection (default ansible-core)
kubectl_version=${BERTH_KUBECTL_VERSION:-1.36.4}
terraform_version=${BERTH_TERRAFORM_VERSION:-1.14.5}
ansible_package=${BERTH_ANSIBLE_PACKAGE:-ansible-core}

begin_part role
kubectl_version=${kubectl_version#v} terraform_version=${terraform_version#v}
check_version BERTH_KUBECTL_VERSION "$kubectl_version"
check_version BERTH_TERRAFORM_VERSION "$terraform_version"
check_version BERTH_ANSIBLE_PACKAGE "$ansible_package"

progress 5 'Docker client and Ansible'
want ansible "$ansible_package" "$ansible_package" "$ansible_package"
if ! have kubectl || ! have terraform; then want_downloader; fi
have terraform || want unzip unzip unzip unzip
if ! have docker && [ "$package_manager" = apt-get ]; then
    # Newer releases have the client alone; whether this one has shows only once the lists are there.
    update_packages
    docker_package=docker.io
    if apt-cache show docker-cli >/dev/null 2>&1 </dev/null; then docker_package=docker-cli; fi
    want docker "$docker_package" - -
else
    want docker docker.io docker-cli docker
fi
install_wanted

if ! have kubectl; then
    progress 60 "kubectl $kubectl_version"
    for_machine kubectl amd64 arm64
    kubectl_at=dl.k8s.io/release/v$kubectl_version/bin/linux/$machine_name/kubectl
    download_checked "$kubectl_at" "$staging/kubectl" "$kubectl_at.sha256"
    chmod 755 "$staging/kubectl"
    mkdir -p /usr/local/bin
    # From the home to another file system: a copy, which may be interrupted, and then a rename.
    cp "$staging/kubectl" /usr/local/bin/.kubectl.berth-new
    mv /usr/local/bin/.kubectl.berth-new /usr/local/bin/kubectl
fi
if ! have terraform; then
    progress 75 "terraform $terraform_version"
    for_machine terraform amd64 arm64
    terraform_at=releases.hashicorp.com/terraform/$terraform_version
    terraform_archive=terraform_${terraform_version}_linux_$machine_name.zip
    download_checked "$terraform_at/$terraform_archive" "$staging/$terraform_archive" \
        "$terraform_at/terraform_${terraform_version}_SHA256SUMS" "$terraform_archive"
    unzip -o -q "$staging/$terraform_archive" terraform -d "$staging/terraform" </dev/null ||
        fail 'The archive of terraform cannot be unpacked; check the disk space and the mirror.'
    chmod 755 "$staging/terraform/terraform"
    mkdir -p /usr/local/bin
    cp "$staging/terraform/terraform" /usr/local/bin/.terraform.berth-new
    mv /usr/local/bin/.terraform.berth-new /usr/local/bin/terraform
fi

progress 90 'Start-up files'
path_lines /usr/local/bin | write_setting role.sh
write_start_up_files
show_version docker --version
show_version kubectl version --client
show_version terraform version
show_version ansible --version
progress 100 'The devops tools are ready.'
end_part role
